//! What `watchdog jobs` does: job tables from the application's own list or from past logs, and
//! how each job stands.

pub mod import;
pub mod list;
pub mod suggest;

use std::fmt::Write as _;

use jiff::SignedDuration;
use toml_writer::ToTomlValue as _;

/// One `[[scheduler.job]]` table as it is printed for people to paste.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// Sentences above it.
    comments: Vec<String>,
    /// Keys with their values, as TOML.
    keys: Vec<(&'static str, String)>,
    /// It is only a proposal, which must not be used as it is.
    commented_out: bool,
}

impl Table {
    fn comment(&mut self, sentence: impl Into<String>) {
        self.comments.push(sentence.into());
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.keys.push((key, quoted(value)));
    }

    /// One text, or an array of several.
    fn texts(&mut self, key: &'static str, values: &[String]) {
        match values {
            [one] => self.text(key, one),
            many => {
                let many: Vec<String> = many.iter().map(|value| quoted(value)).collect();
                self.keys.push((key, format!("[{}]", many.join(", "))));
            }
        }
    }

    /// The table as text, with a line break at its end.
    fn print(&self) -> String {
        let mut text = String::new();
        for comment in &self.comments {
            // What comes from a file must not end the comment.
            let comment = crate::message::safe::line(comment);
            let _ = writeln!(text, "# {comment}");
        }
        let mark = if self.commented_out { "# " } else { "" };
        let _ = writeln!(text, "{mark}[[scheduler.job]]");
        for (key, value) in &self.keys {
            let _ = writeln!(text, "{mark}{key} = {value}");
        }
        text
    }
}

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    text.to_toml_value()
}

/// A duration as configuration has it: whole minutes or seconds.
fn duration(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    match (seconds % 3600, seconds % 60) {
        (0, _) => format!("{}h", seconds / 3600),
        (_, 0) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}
