//! A guest's stderr output before a trap, and the part of it that states the cause.

use std::collections::VecDeque;

/// The newest lines are kept, because tracebacks end with their cause.
const TAIL_LINES: usize = 16;
/// Lines kept from the start of a report, because stack traces of Go and JavaScript begin with their cause.
const REPORT_LINES: usize = 8;
/// Lines shown of output that is not a known report.
const SHOWN_LINES: usize = 3;
/// How componentize-py ends after an uncaught exception. The traceback precedes it.
const PYTHON_PANIC: &str = "Python function threw an unexpected exception";
/// How StarlingMonkey reports an uncaught exception that is not a failure of the contract. Its text and a
/// stack follow.
const THROWN: &str = "invalid variant tag value `undefined` (received `";
const THROWN_ENDS: &str = "`) specified for `Failure`";
/// The text of an object without a string form.
const NO_TEXT: &str = "[object Object]";
/// What StarlingMonkey writes after each error, and as its last line.
const JAVASCRIPT_STACK: &str = "Stack:";
const JAVASCRIPT_ABORT: &str = "Redirecting call to abort()";
/// What Go writes after a panic's message.
const GO_STACK: [&str; 3] = ["goroutine ", "[signal ", "runtime stack:"];
/// How the runtime of QuickJS formats an exception.
const QUICKJS_MESSAGE: &str = "Exception { message: Some(\"";
const QUICKJS_STACK: &str = "stack: Some(\"";
/// What Rust writes after a panic's message.
const RUST_NOTE: &str = "note: run with `RUST_BACKTRACE";
const TRACEBACK: &str = "Traceback (most recent call last)";

/// The last lines of stderr. The caller escapes and bounds them.
#[derive(Default)]
pub struct LastWords {
    tail: VecDeque<String>,
    report: Vec<String>,
}

impl LastWords {
    pub fn push(&mut self, line: String) {
        if begins_report(&line) {
            self.report.clear();
            self.report.push(line.clone());
        } else if (1..REPORT_LINES).contains(&self.report.len()) {
            self.report.push(line.clone());
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// The message of a panic, an exception or a failed assertion.
    pub fn cause(&self) -> Option<String> {
        match self.report.first() {
            Some(first) if is_rust_panic(first) => self.below_rust_panic(),
            Some(first) if is_go_panic(first) => {
                Some(self.report_until(|line| GO_STACK.iter().any(|stack| line.starts_with(stack))))
            }
            Some(first) if first.starts_with(THROWN) => Some(self.thrown()),
            Some(first) => Some(first.clone()),
            None => self.above_javascript_stack().or_else(|| self.error_line()),
        }
    }

    /// The last lines as one text, for a trap without a known cause.
    pub fn tail(&self) -> Option<String> {
        let skipped = self.tail.len().saturating_sub(SHOWN_LINES);
        let lines: Vec<&str> = self.tail.iter().skip(skipped).map(String::as_str).collect();
        if lines.is_empty() { None } else { Some(lines.join(" | ")) }
    }

    /// Rust writes the location, followed by the message, which may have several lines.
    fn below_rust_panic(&self) -> Option<String> {
        let (place, below) = self.report.split_first()?;
        let message = one_text(below.iter(), |line| line.starts_with(RUST_NOTE));
        if message.contains(PYTHON_PANIC)
            && let Some(exception) = self.python()
        {
            return Some(exception);
        }
        Some(quickjs(&message).unwrap_or_else(|| format!("{message} ({place})")))
    }

    /// The report's lines as one text, without its stack.
    fn report_until(&self, is_stack: impl Fn(&str) -> bool) -> String {
        one_text(self.report.iter(), is_stack)
    }

    /// The value that JavaScript threw. If it has no text, the whole message of StarlingMonkey.
    fn thrown(&self) -> String {
        let whole = self.report_until(|line| line == JAVASCRIPT_STACK);
        let thrown = whole.strip_prefix(THROWN).and_then(|rest| rest.strip_suffix(THROWN_ENDS));
        match thrown {
            Some(text) if text != NO_TEXT => text.to_owned(),
            _ => whole,
        }
    }

    /// The line before the stack with which StarlingMonkey aborted.
    fn above_javascript_stack(&self) -> Option<String> {
        let aborts = self.tail.iter().rposition(|line| line.starts_with(JAVASCRIPT_ABORT))?;
        let stack = self.tail.iter().take(aborts).rposition(|line| line == JAVASCRIPT_STACK)?;
        self.tail.get(stack.checked_sub(1)?).cloned()
    }

    /// The exception before componentize-py's own panic: the lines without indentation, and the location
    /// before them.
    fn python(&self) -> Option<String> {
        let panic = self.tail.iter().rposition(|line| is_rust_panic(line))?;
        let above: Vec<&str> = self.tail.iter().take(panic).map(String::as_str).collect();
        let is_frame = |line: &&str| line.starts_with(' ') || line.starts_with(TRACEBACK);
        let begins = above.iter().rposition(is_frame).map_or(0, |frame| frame + 1);
        let exception = above.get(begins..).filter(|lines| !lines.is_empty())?.join(" ");
        let is_place = |line: &&&str| line.trim_start().starts_with("File \"");
        match above.iter().take(begins).rev().find(is_place) {
            Some(place) => Some(format!("{exception} ({})", place.trim_start())),
            None => Some(exception),
        }
    }

    /// `TypeError: …` of JavaScript, `RuntimeError: …` of other languages.
    fn error_line(&self) -> Option<String> {
        let names_error = |line: &&String| line.contains("Error: ") || line.contains("Exception: ");
        self.tail.iter().rev().find(names_error).cloned()
    }
}

/// Joins the lines up to the first that is not part of the message.
fn one_text<'a>(lines: impl Iterator<Item = &'a String>, is_stack: impl Fn(&str) -> bool) -> String {
    lines.map(|line| line.trim()).take_while(|line| !is_stack(line)).collect::<Vec<_>>().join(" ")
}

/// The message of an exception, and the innermost location of its stack.
fn quickjs(panic: &str) -> Option<String> {
    let (_, text) = panic.split_once(QUICKJS_MESSAGE)?;
    let message = unescaped(text)?.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let stack = text.split_once(QUICKJS_STACK).and_then(|(_, stack)| unescaped(stack)).unwrap_or_default();
    match stack.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(place) => Some(format!("{message} ({place})")),
        None => Some(message),
    }
}

/// Parses the text of Rust's `{:?}`, up to its closing quote.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some(plain),
            '\\' => match chars.next()? {
                'n' => plain.push('\n'),
                't' => plain.push(' '),
                other @ ('"' | '\'' | '\\') => plain.push(other),
                other => plain.extend(['\\', other]),
            },
            other => plain.push(other),
        }
    }
}

fn is_rust_panic(line: &str) -> bool {
    line.contains("panicked at")
}

fn is_go_panic(line: &str) -> bool {
    line.starts_with("panic: ") || line.starts_with("fatal error: ")
}

/// Reports of Rust, Go and JavaScript, and of C's `assert`.
fn begins_report(line: &str) -> bool {
    is_rust_panic(line)
        || is_go_panic(line)
        || line.starts_with(THROWN)
        || line.starts_with("Assertion failed: ")
}

#[cfg(test)]
mod tests {
    use super::LastWords;

    fn said(lines: &str) -> LastWords {
        let mut words = LastWords::default();
        lines.lines().filter(|line| !line.is_empty()).for_each(|line| words.push(line.to_owned()));
        words
    }

    fn cause(lines: &str) -> String {
        said(lines).cause().unwrap()
    }

    const PANIC: &str = "thread '<unnamed>' (1) panicked at runtime/src/lib.rs:1293:29:\n\
        Python function threw an unexpected exception\n\
        note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";

    #[test]
    fn a_python_exception_is_the_cause_and_not_the_panic_below_it() {
        let traceback = "Traceback (most recent call last):\n  File \"/app.py\", line 91, in process\n    \
            raise KeyError(\"nothing here\")\nKeyError: 'nothing here'\n";
        let expected = "KeyError: 'nothing here' (File \"/app.py\", line 91, in process)";
        assert_eq!(cause(&format!("{traceback}{PANIC}")), expected);

        let chained = format!(
            "{traceback}During handling of the above exception, another exception occurred:\n\
            Traceback (most recent call last):\n  File \"/app.py\", line 95, in process\n    f()\n    ~^^\n\
            ValueError: first line\nsecond line\n{PANIC}"
        );
        let expected = "ValueError: first line second line (File \"/app.py\", line 95, in process)";
        assert_eq!(cause(&chained), expected);
    }

    #[test]
    fn a_python_exception_is_found_below_a_traceback_of_any_length() {
        let frames = "  File \"/app.py\", line 7, in f\n    f()\n".repeat(200);
        let text = format!("Traceback (most recent call last):\n{frames}RecursionError: too deep\n{PANIC}");
        assert_eq!(cause(&text), "RecursionError: too deep (File \"/app.py\", line 7, in f)");
        let bare = format!("SystemExit\n{PANIC}");
        assert_eq!(cause(&bare), "SystemExit");
        assert!(
            cause(PANIC).starts_with("Python function threw"),
            "without a traceback the panic is all there is"
        );
    }

    #[test]
    fn a_go_panic_is_the_cause_however_long_its_stack_is() {
        let frames = "main.f(0x1)\n\t/src/job.go:12 +0x2\n".repeat(100);
        let text =
            format!("panic: assignment to entry in nil map\n\ngoroutine 1 [running]:\n{frames}exit status 2");
        assert_eq!(cause(&text), "panic: assignment to entry in nil map");
        assert_eq!(
            cause("fatal error: nanotime returning zero\nruntime stack:"),
            "fatal error: nanotime returning zero"
        );
        let text = "panic: no bolts [recovered]\n panic: cannot order\n [signal 0xb code=0x0]\ngoroutine 1 [running]:";
        assert_eq!(cause(text), "panic: no bolts [recovered] panic: cannot order");
    }

    #[test]
    fn what_javascript_threw_is_the_cause() {
        let report = |thrown: &str, kind: &str| {
            format!(
                "invalid variant tag value `undefined` (received `{thrown}`) specified for `{kind}`\nStack:\n  \
                export_job$process@/tmp/initializer.js:4360:15\nRedirecting call to abort() to mozalloc_abort"
            )
        };
        assert_eq!(cause(&report("TypeError: x is undefined", "Failure")), "TypeError: x is undefined");
        assert_eq!(cause(&report("Error: first\nsecond", "Failure")), "Error: first second");
        assert_eq!(cause(&report("a `quoted` word", "Failure")), "a `quoted` word");
        let whole = "invalid variant tag value `undefined` (received `42`) specified for `Outcome`";
        assert_eq!(cause(&report("42", "Outcome")), whole);
        assert!(cause(&report("[object Object]", "Failure")).starts_with("invalid variant tag value"));
        let other = "an own line\ncan't access property \"tag\", variant21 is undefined\nStack:\n  export_job@/x.js:1:2\n\
            Redirecting call to abort() to mozalloc_abort";
        assert_eq!(cause(other), "can't access property \"tag\", variant21 is undefined");
        assert_eq!(said("Stack: of my own\nStack:").cause(), None);
    }

    #[test]
    fn what_quickjs_threw_is_the_cause() {
        let report = |shown: &str| {
            format!(
                "thread '<unnamed>' (1) panicked at interpreter.rs:51:31:\nFailed to call 'process': Value(Exception(\n\
                Exception {{ {shown} }})\n)\nnote: run with `RUST_BACKTRACE=1`"
            )
        };
        let shown = r#"message: Some("not \"a\"\nnumber"), stack: Some("    at f (/job.js:13:14)\n    at process (/job.js:55:32)\n")"#;
        assert_eq!(cause(&report(shown)), "not \"a\" number (at f (/job.js:13:14))");
        assert_eq!(cause(&report(r#"message: Some("cut"), stack: None"#)), "cut");
        assert!(cause(&report(r#"message: Some("without an end"#)).starts_with("Failed to call 'process'"));
    }

    #[test]
    fn rust_javascript_and_c_name_their_cause() {
        let rust = "thread 'x' panicked at src/lib.rs:3:5:\nno entry for key\nnote: run with `RUST_BACKTRACE=1` to display a backtrace";
        assert_eq!(cause(rust), "no entry for key (thread 'x' panicked at src/lib.rs:3:5:)");
        let rust =
            "thread 'x' panicked at src/lib.rs:3:5:\nassertion `left == right` failed\n  left: 1\n right: 2";
        assert!(cause(rust).starts_with("assertion `left == right` failed left: 1 right: 2 (thread"));
        let js = "TypeError: cannot read property 'nothing' of undefined\n    at process (job.js:3)";
        assert!(cause(js).starts_with("TypeError: cannot read"));
        let c = "Assertion failed: n > 0 (job.c: process: 12)";
        assert_eq!(cause(c), c);
    }

    #[test]
    fn without_a_known_report_the_last_lines_are_kept() {
        assert_eq!(said("one\ntwo\nthree\nfour").cause(), None);
        assert_eq!(said("one\ntwo\nthree\nfour").tail().unwrap(), "two | three | four");
        assert_eq!(said("").tail(), None);
    }
}
