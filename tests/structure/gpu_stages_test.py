"""What scripts/gpu_stages.py makes of what its items left, tried without a GPU: time on one is too short to find out there.

usage: gpu_stages_test.py SCRIPTS_FOLDER
"""

import io
import itertools
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
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


def item_of(name, words, beside=True):
    item = stages.Item(name, shell(words), stages.by_exit_code, seconds=20)
    item.beside = beside
    return item


def runs(number):
    """Whether the process with this number still does."""
    try:
        return pathlib.Path("/proc", number, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds):
    """Until the alarm: a machine may be slow."""
    while not holds():
        stages.time.sleep(0.05)


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.addCleanup(stages.stopping.clear)  # an interruption is to end nothing of the next test

    def context(self, device="cpu", **more):
        given = {"device": device, "out": self.folder, "items": None, "seconds": None, "jobs": 2,
                 "peer_python": "python3", "jax_python": "python3"}  # fmt: skip
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

    def test_a_sanitizer_that_broke_has_shown_nothing(self):
        line = "========= Internal Sanitizer Error: what went wrong"
        for text in (f"begun\n{line}\n", f"{line}\n========= RACECHECK SUMMARY: 0 hazards displayed\n"):
            for judge in (stages.of_sanitizer(stages.by_exit_code), stages.of_report(stages.by_exit_code)):
                for code in (0, 99):
                    self.assertEqual(judge(code, text), {"state": "not run", "why": line})

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
        wait_until(lambda: not runs(started.read_text().strip()))

    def test_what_had_too_little_time_is_unfinished(self):
        result = self.run_item(stages.Item("one", shell("sleep 600"), stages.by_exit_code, seconds=60), seconds=0.3)
        self.assertEqual(result["state"], "unfinished")

    def test_a_failed_test_runs_alone_with_launches_that_block(self):
        item = stages.Item("one", shell("echo '[  FAILED  ] S.a (1 ms)'; exit 1"), stages.by_exit_code)
        item.alone = lambda test: shell(f"echo {test} $CUDA_LAUNCH_BLOCKING")
        self.assertEqual(self.run_item(item)["alone"], {"test": "S.a", "exit_code": 0, "output": "S.a 1\n"})
        self.assertIn("\n$ CUDA_LAUNCH_BLOCKING=1 sh -c 'echo S.a $CUDA_LAUNCH_BLOCKING'\nS.a 1\n", self.log.getvalue())

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
            if "operations_bench" in command:  # which records nothing
                continue
            self.assertTrue("--replay graph" in command or "--no-persistent" in command, command)
        self.assertEqual(tests, "*/cuda_*-*/cuda_*persistent*")


class SideBySide(Folder):
    """Items of which several may run at the same time."""

    def stage_of(self, items, jobs):
        """The record of a stage of these items, and its log."""
        with unittest.mock.patch.dict(stages.STAGES, {"trial": lambda _: items}), unittest.mock.patch("builtins.print"):
            record = stages.run_stage("trial", self.context(jobs=jobs), False, FAR)
        return record, (self.folder / "trial.log").read_text()

    def meeting(self, name, others):
        """Words that end when all the others have begun as well."""
        wait = (f"while [ ! -e {self.folder}/met-{other} ]; do sleep 0.05; done; " for other in others)
        return f"touch {self.folder}/met-{name}; {''.join(wait)}"

    def events(self, name):
        """Words that leave when they began and when they ended among the events of all items."""
        return f"echo begin {name} >>{self.folder}/events; sleep 0.3; echo end {name} >>{self.folder}/events"

    def seen(self):
        return [line.split() for line in (self.folder / "events").read_text().splitlines()]

    def test_items_that_may_run_at_the_same_time(self):
        record, _ = self.stage_of([item_of("a", self.meeting("a", "b")), item_of("b", self.meeting("b", "a"))], 2)
        self.assertEqual([item["state"] for item in record["items"].values()], ["passed", "passed"])
        self.assertEqual((record["state"], record["left"]), ("passed", []))

    def test_no_more_than_so_many_run_at_the_same_time(self):
        for jobs in (1, 2):
            (self.folder / "events").unlink(missing_ok=True)
            (self.folder / "trial.json").unlink(missing_ok=True)
            self.stage_of([item_of(name, self.events(name)) for name in "abcde"], jobs)
            steps = [1 if what == "begin" else -1 for what, _ in self.seen()]
            self.assertEqual((len(steps), sum(steps)), (10, 0))
            self.assertLessEqual(max(itertools.accumulate(steps)), jobs)

    def test_an_item_that_may_not_runs_alone(self):
        items = [item_of(name, self.events(name), beside=name not in "cd") for name in "abcdef"]
        record, _ = self.stage_of(items, 4)
        self.assertEqual(record["state"], "passed")
        seen = self.seen()
        self.assertEqual({name for _, name in seen[:4]}, {"a", "b"})
        self.assertEqual(seen[4:8], [["begin", "c"], ["end", "c"], ["begin", "d"], ["end", "d"]])
        self.assertEqual({name for _, name in seen[8:]}, {"e", "f"})

    def test_the_log_holds_each_command_with_its_own_output(self):
        failed = "[  FAILED  ] S.x (1 ms)"
        say = lambda name: f"for i in 1 2 3 4 5; do echo {name} $i; sleep 0.03; done; "
        said = lambda name: "".join(f"{name} {i}\n" for i in range(1, 6))
        items = [item_of(name, self.meeting(name, "abc") + say(name) + f"echo '{failed}'; exit 1") for name in "abc"]
        blocks = [""]
        for item in items:
            item.alone = lambda test, name=item.name: shell(say(f"{test} of {name}"))
            blocks.append(f"{shlex.join(item.command)}\n{said(item.name)}{failed}\n")
            blocks.append(f"CUDA_LAUNCH_BLOCKING=1 {shlex.join(item.alone('S.x'))}\n{said(f'S.x of {item.name}')}")
        _, log = self.stage_of(items, 3)
        self.assertEqual(sorted(log.split("\n$ ")), sorted(blocks))


class Interruption(Folder):
    """The whole script in this process, and a signal for it while an item hangs beside another's failed test alone."""

    def setUp(self):
        super().setUp()
        for number in (signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def hang(self, name):
        """Words that hang when they are first run, with a child, and leave both numbers."""
        left = self.folder / f"hangs-{name}"
        return f"[ -e {left} ] || {{ sleep 600 & echo $$ $! >{left}.new; mv {left}.new {left}; wait; }}; "

    def call(self):
        items = [
            item_of("a", self.hang("a")),
            item_of("b", f"[ -e {self.folder}/hangs-b ] || {{ echo '[  FAILED  ] S.b (1 ms)'; exit 1; }}"),
            item_of("c", f"echo x >>{self.folder}/ran-c"),
        ]
        items[0].seconds = items[1].seconds = 600  # nothing but the interruption is to end them
        items[1].alone = lambda test: shell(self.hang("b"))
        words = ["gpu_stages.py", "--device", "cpu", "--out", str(self.folder / "results"), "--jobs", "2", "trial"]
        with unittest.mock.patch.dict(stages.STAGES, {"trial": lambda _: items}), \
             unittest.mock.patch.object(sys, "argv", words), unittest.mock.patch("builtins.print"):  # fmt: skip
            code = stages.main()
        return code, json.loads((self.folder / "results" / "trial.json").read_text())

    def test_it_ends_all_that_runs_and_leaves_it_open(self):
        left = [self.folder / f"hangs-{name}" for name in "ab"]

        def send():
            wait_until(lambda: all(path.exists() for path in left))
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=send, daemon=True).start()
        states = lambda record: {name: item["state"] for name, item in record["items"].items()}
        code, record = self.call()
        self.assertEqual((code, record["state"]), (128 + signal.SIGTERM, "unfinished"))
        self.assertEqual(states(record), dict.fromkeys("ab", "unfinished"))
        self.assertFalse((self.folder / "ran-c").exists())  # what was waiting was not begun
        self.assertEqual(stages.running, set())
        wait_until(lambda: not any(runs(number) for path in left for number in path.read_text().split()))

        stages.stopping.clear()  # as in a new process
        code, record = self.call()
        self.assertEqual((code, record["state"], record["left"]), (0, "passed", []))
        self.assertEqual(states(record), dict.fromkeys("abc", "passed"))
        self.assertEqual((self.folder / "ran-c").read_text(), "x\n")


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
