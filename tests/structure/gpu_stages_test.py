"""What scripts/gpu_stages.py makes of what its items left, tried without a GPU: time on one is too short to find out there.

usage: gpu_stages_test.py SCRIPTS_FOLDER
"""

import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import types
import unittest
import unittest.mock

SCRIPTS = pathlib.Path(sys.argv.pop(1))
sys.path.insert(0, str(SCRIPTS))
sys.dont_write_bytecode = True
import gpu_stages as stages  # noqa: E402

FAR = 1e9  # seconds: no end


def shell(words):
    return ["sh", "-c", words]


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def context(self, device="cpu", **more):
        given = {"device": device, "out": self.folder, "items": None, "seconds": None, "peer_python": "python3", "jax_python": "python3"}
        with unittest.mock.patch.object(stages, "card", lambda: "one card"):
            made = stages.Context(types.SimpleNamespace(**{**given, **more}))
        self.addCleanup(shutil.rmtree, made.scratch)
        return made


class Judging(Folder):
    def of_tests(self, cases, code=0):
        report = self.folder / "report.json"
        report.write_text(json.dumps({"testsuites": [{"testsuite": cases}]}))
        return stages.of_tests(report)(code, "")

    def case(self, name, result="COMPLETED", **more):
        return {"classname": "Suite", "name": name, "result": result, **more}

    def test_passed_where_all_that_ran_passed(self):
        result = self.of_tests([self.case("a"), self.case("b", "SKIPPED")])
        self.assertEqual((result["state"], result["passed"], result["skipped"]), ("passed", ["Suite.a"], ["Suite.b"]))

    def test_failed_where_one_failed_or_none_ran_or_there_is_no_report(self):
        result = self.of_tests([self.case("a"), self.case("b", failures=[{}])], 1)
        self.assertEqual((result["state"], result["failed"]), ("failed", ["Suite.b"]))
        self.assertEqual(self.of_tests([self.case("a", "SKIPPED")])["state"], "failed")
        self.assertEqual(self.of_tests([self.case("a")], 139)["state"], "failed")
        judge = stages.of_tests(self.folder / "nowhere.json")
        self.assertEqual(judge(127, "one line\nthe last\n\n"), {"state": "failed", "exit_code": 127, "why": "the last"})

    def test_a_sanitizer_must_give_a_summary(self):
        judge = stages.of_sanitizer(stages.by_exit_code)
        self.assertEqual(judge(0, "ERROR SUMMARY: 0 errors")["state"], "passed")
        self.assertEqual(judge(99, "ERROR SUMMARY: 3 errors")["state"], "failed")
        self.assertEqual(judge(0, "nothing")["state"], "failed")
        self.assertEqual(judge(1, "Device not supported")["state"], "not run")
        self.assertEqual(stages.of_report(stages.by_exit_code)(99, "ERROR SUMMARY: 3 errors")["state"], "reported")

    def test_what_a_route_refuses_is_no_failure(self):
        self.assertEqual(stages.of_bench(64, "wakesleep: too wide")["state"], "refused")
        self.assertEqual(stages.of_bench(70, "wakesleep: wrong")["state"], "failed")
        self.assertEqual(stages.of_bench(0, 'a plan\n{"images_per_second": 5}\n')["images_per_second"], 5)

    def test_the_first_failed_test_is_the_failed_one_or_the_one_it_ended_in(self):
        run = "[ RUN      ] S.a\n[       OK ] S.a (0 ms)\n[ RUN      ] S.b\n"
        self.assertEqual(stages.first_failed_test(run), "S.b")
        self.assertEqual(stages.first_failed_test(run + "[  FAILED  ] S.b (1 ms)\n[ RUN      ] S.c\n"), "S.b")
        self.assertIsNone(stages.first_failed_test(run + "[       OK ] S.b (1 ms)\n"))

    def test_two_hashes_are_a_failure(self):
        same, other = {"hash": "1"}, {"hash": "2"}
        for cpu, state in ((same, "passed"), (other, "failed")):
            results = {"cuda": same, "cpu": cpu}
            stages.check_same_bits(results)
            self.assertEqual(results["same bits"]["state"], state)


class Running(Folder):
    def run_item(self, item, seconds=FAR):
        self.log = io.StringIO()
        return stages.run_item(item, self.log, stages.time.monotonic() + seconds)

    def test_output_and_exit_code_are_judged_and_logged(self):
        result = self.run_item(stages.Item("one", shell("echo said; exit 3"), stages.by_exit_code))
        self.assertEqual((result["state"], result["exit_code"]), ("failed", 3))
        self.assertIn("said", self.log.getvalue())

    def test_what_hangs_is_ended_with_all_that_it_started(self):
        started = self.folder / "pid"
        item = stages.Item("one", shell(f"sleep 600 & echo $! >{started}; wait"), stages.by_exit_code, seconds=3)
        self.assertEqual(self.run_item(item)["state"], "failed")
        while self.runs(started.read_text().strip()):  # until the alarm: a machine may be slow to end it
            stages.time.sleep(0.05)

    @staticmethod
    def runs(number):
        try:
            return pathlib.Path("/proc", number, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def test_what_had_too_little_time_is_unfinished(self):
        result = self.run_item(stages.Item("one", shell("sleep 600"), stages.by_exit_code, seconds=60), seconds=0.3)
        self.assertEqual(result["state"], "unfinished")

    def test_a_failed_test_runs_alone_with_launches_that_block(self):
        item = stages.Item("one", shell("echo '[  FAILED  ] S.a (1 ms)'; exit 1"), stages.by_exit_code)
        item.alone = lambda test: shell(f"echo {test} $CUDA_LAUNCH_BLOCKING")
        self.assertEqual(self.run_item(item)["alone"], {"test": "S.a", "exit_code": 0, "output": "S.a 1\n"})

    def test_a_program_that_is_not_there_is_a_failure(self):
        result = self.run_item(stages.Item("one", [self.folder / "nowhere"], stages.by_exit_code))
        self.assertEqual(result["state"], "failed")


class Stages(Folder):
    """A stage of three items, which count how often they run."""

    def stage(self, context, last="true", again=False, seconds=FAR):
        def items(_):
            for name, command in (("a", "true"), ("b", "true"), ("c", last)):
                yield stages.Item(name, shell(f"echo x >>{self.folder}/ran-{name}; {command}"), stages.by_exit_code)

        with unittest.mock.patch.dict(stages.STAGES, {"trial": items}), unittest.mock.patch("builtins.print"):
            return stages.run_stage("trial", context, again, seconds)

    def ran(self, name):
        path = self.folder / f"ran-{name}"
        return len(path.read_text().split()) if path.exists() else 0

    def test_a_finished_stage_is_not_run_again_unless_asked(self):
        self.assertEqual(self.stage(self.context())["state"], "passed")
        self.assertEqual(self.stage(self.context())["state"], "passed")
        self.assertEqual([self.ran(name) for name in "abc"], [1, 1, 1])
        self.stage(self.context(items=["b"]), again=True)
        self.assertEqual([self.ran(name) for name in "abc"], [1, 2, 1])

    def test_items_that_were_not_chosen_or_had_no_time_are_left(self):
        record = self.stage(self.context(items=["b"]))
        self.assertEqual((record["state"], record["left"]), ("unfinished", []))
        record = self.stage(self.context(), seconds=1)  # each is expected to take longer
        self.assertEqual((record["state"], record["left"]), ("unfinished", ["a", "c"]))
        self.assertEqual(stages.exit_code_of([record], self.context()), stages.UNFINISHED)
        self.assertEqual(self.stage(self.context())["state"], "passed")
        self.assertEqual([self.ran(name) for name in "abc"], [1, 1, 1])

    def test_a_failure_decides_and_is_not_tried_again(self):
        record = self.stage(self.context(), last="false")
        self.assertEqual((record["state"], stages.exit_code_of([record], self.context())), ("failed", 1))
        self.assertEqual(self.stage(self.context())["state"], "failed")
        self.assertEqual(self.ran("c"), 1)

    def test_what_one_card_has_shown_is_not_continued_on_another(self):
        self.stage(self.context())
        other = self.context()
        other.card = "another card"
        self.stage(other)
        self.assertEqual([self.ran(name) for name in "abc"], [2, 2, 2])

    def test_the_archive_holds_everything_but_itself(self):
        self.stage(self.context())
        stages.archive(self.folder)
        with tarfile.open(self.folder / stages.ARCHIVE) as tar:
            self.assertEqual({"trial.json", "trial.log", "ran-a"} - set(tar.getnames()), set())
            self.assertNotIn(stages.ARCHIVE, tar.getnames())

    def test_words_that_no_item_has_are_refused(self):
        record = self.stage(self.context(items=["nothing"]))
        with unittest.mock.patch("sys.stderr", io.StringIO()):
            self.assertEqual(stages.exit_code_of([record], self.context(items=["nothing"])), stages.REFUSED)

    def test_where_the_persistent_kernel_failed_nothing_else_runs_it(self):
        def commands():
            context = self.context("cuda")
            items = [*stages.nets_stage(context), *stages.peers_stage(context), stages.training_item(context, "cuda")]
            return [" ".join(item.command) for item in items], context.tests

        before, tests = commands()
        self.assertTrue(any("--replay persistent" in command for command in before))
        self.assertEqual(tests, "*/cuda_*")
        record = {**stages.what_is_tried(self.context("cuda")), "items": {stages.PERSISTENT_ITEM: {"state": "failed"}}}
        stages.save(self.folder / "hashes.json", record)
        after, tests = commands()
        for command in after:
            self.assertTrue("--replay graph" in command or "--no-persistent" in command, command)
        self.assertEqual(tests, "*/cuda_*-*/cuda_*persistent*")


class WithoutAGpu(Folder):
    """The whole script, where nvidia-smi is not to be found."""

    def call(self, *words):
        return subprocess.run([sys.executable, SCRIPTS / "gpu_stages.py", "--out", self.folder / "results", *words],
                              env={**os.environ, "PATH": str(self.folder)}, text=True, capture_output=True)  # fmt: skip

    def test_every_stage_says_that_it_needs_one(self):
        done = self.call()
        self.assertEqual((done.returncode, done.stderr), (stages.NO_GPU, ""))
        for name in stages.STAGES:
            self.assertRegex(done.stdout, rf"(?m)^{name} +no GPU +needs a GPU, and none answers: there is no nvidia-smi$")
        self.assertTrue((self.folder / "results" / stages.ARCHIVE).exists())

    def test_a_dry_run_lists_every_stage(self):
        done = self.call("--dry-run")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for name in stages.STAGES:
            self.assertRegex(done.stdout, rf"(?m)^{name}: ")

    def test_an_unknown_stage_is_refused(self):
        done = self.call("devices")
        self.assertEqual(done.returncode, 2)
        self.assertIn("there is no stage 'devices'; expected device, hashes", done.stderr)


if __name__ == "__main__":
    signal.alarm(120)
    unittest.main()
