#!/usr/bin/awk -f
# Reads the JUnit file of a ctest run and prints the skipped tests, grouped by the reason they gave, and, after
# ctest's own closing lines (-v ctest_closing=...), the counts.

function attribute(name) {
  if (!match($0, name "=\"[^\"]*\"")) return ""
  return substr($0, RSTART + length(name) + 2, RLENGTH - length(name) - 3)
}

function plain(text) {
  gsub(/&lt;/, "<", text); gsub(/&gt;/, ">", text); gsub(/&quot;/, "\"", text); gsub(/&apos;/, "'", text)
  gsub(/&amp;/, "\\&", text)
  return text
}

/<testcase / {
  name = plain(attribute("name"))
  status = attribute("status")
  skipped = (status == "disabled")
  reason = skipped ? "switched off in its source (DISABLED_)" : ""
  last_line = "no reason given"
  reason_follows = 0
  next
}

/<skipped / {
  skipped = attribute("message") ~ /^SKIP_/   # anything else: the test could not be run at all
  next
}

/<\/testcase>/ {
  if (status == "run") {
    ++passed
  } else if (skipped) {
    ++skips
    if (reason == "") reason = last_line
    if (!(reason in count)) reasons[++reason_count] = reason
    ++count[reason]
    if (count[reason] == 1) example[reason] = name
  } else {
    ++failed
  }
  next
}

# GoogleTest writes the reason after "file:line: Skipped"; other tests write it as their last line.
reason_follows { reason = plain($0); reason_follows = 0 }
/: Skipped$/ { reason_follows = 1 }
{
  line = $0
  sub(/^[ \t]*<system-out>/, "", line)
  sub(/<\/system-out>.*/, "", line)
  if (line ~ /[^ \t]/) last_line = plain(line)
}

END {
  if (skips > 0) print "\nSkipped here, and why:"
  for (i = 1; i <= reason_count; ++i) {
    more = count[reasons[i]] - 1
    others = (more > 0) ? " and " more " more" : ""
    printf "  %4d  %s (%s%s)\n", count[reasons[i]], reasons[i], example[reasons[i]], others
  }
  closing = passed + 0 " passed, " failed + 0 " failed, " skips + 0 " skipped"
  if (ctest_closing != "") print "\n" ctest_closing
  print closing
}
