//! Numbers and lengths of time in words.

use jiff::SignedDuration;

use crate::replay::story::Incident;

/// Lines of a mark's hint.
const MOST_HINTS: usize = 8;

/// The faces of an incident.
pub(super) fn names(incident: &Incident) -> String {
    let names: Vec<&str> = incident.conditions.iter().map(|c| c.id()).collect();
    names.join(" → ")
}

/// A task's id is too long for a label.
pub(super) fn brief(subject: &str) -> String {
    match subject.char_indices().nth(12) {
        Some((cut, _)) => format!("{}…", &subject[..cut]),
        None => subject.to_owned(),
    }
}

pub(super) fn hints(lines: impl ExactSizeIterator<Item = String>) -> String {
    let more = lines.len().saturating_sub(MOST_HINTS);
    let mut lines: Vec<String> = lines.take(MOST_HINTS).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

pub(super) fn count(number: u64, word: &str) -> String {
    let end = match (number, word.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {word}{end}", thousands(number))
}

pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time in its two largest units.
pub(super) fn lasted(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size);
    let Some(first) = first else {
        return "0 s".to_owned();
    };
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, size) in units.into_iter().skip(first).take(2) {
        if rest / size > 0 {
            parts.push(format!("{} {unit}", rest / size));
        }
        rest %= size;
    }
    parts.join(" ")
}
