//! Raw log text → text that is safe to match, keep and print.

use std::borrow::Cow;

/// How much of one physical line is looked at, in bytes. The awslogs driver itself splits
/// lines at 16 KiB, so nothing that a scheduler prints is longer in CloudWatch.
pub(super) const MAX_LINE: usize = 16 * 1024;

/// How many physical lines of one event are looked at (an event has more than one only
/// with a multi-line log pattern, which groups a trace, not a day).
const MAX_LINES: usize = 4096;

/// The physical lines of an event, each cut to [`MAX_LINE`] and cleaned.
pub(crate) fn lines(message: &str) -> impl Iterator<Item = Cow<'_, str>> {
    message
        .split('\n')
        .take(MAX_LINES)
        .map(|line| clean(bounded(line, MAX_LINE)))
}

/// The longest beginning of `text` with at most `max` bytes.
pub(super) fn bounded(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Appends as much of `text` as keeps `target` within `max` bytes.
pub(super) fn append(target: &mut String, text: &str, max: usize) {
    target.push_str(bounded(text, max.saturating_sub(target.len())));
}

/// `raw` without terminal escapes, control characters and invisible or reordering
/// characters; tabs and line separators become spaces. Spaces stay: columns mean something
/// in a console's error box.
pub(super) fn clean(raw: &str) -> Cow<'_, str> {
    let raw = raw.trim_end_matches('\r');
    if raw.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(raw);
    }
    let mut cleaned = String::with_capacity(raw.len());
    let mut rest = raw;
    // Once a control string's end was sought in vain, there is none further on either:
    // to remember that keeps this linear.
    let mut strings_end = true;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        match char {
            '\x1b' => rest = skip_escape(rest, &mut strings_end),
            '\u{9b}' => rest = skip_csi(rest),
            '\t' | '\n' | '\x0b' | '\x0c' | '\u{2028}' | '\u{2029}' => cleaned.push(' '),
            _ if is_invisible(char) => {}
            _ => cleaned.push(char),
        }
    }
    Cow::Owned(cleaned)
}

/// What follows an escape sequence whose ESC has been read (ECMA-48).
fn skip_escape<'t>(text: &'t str, strings_end: &mut bool) -> &'t str {
    match text.bytes().next() {
        Some(b'[') => skip_csi(&text[1..]),
        // Control strings (titles, hyperlinks) run up to BEL or ST. One that has no end
        // must not swallow the rest of the line.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let body = &text[1..];
            if *strings_end {
                for (at, char) in body.char_indices() {
                    match char {
                        '\x07' | '\u{9c}' => return &body[at + char.len_utf8()..],
                        '\x1b' if body[at + 1..].starts_with('\\') => return &body[at + 2..],
                        _ => {}
                    }
                }
                *strings_end = false;
            }
            body
        }
        _ => {
            let rest = text.trim_start_matches(|char| matches!(char, ' '..='/'));
            rest.strip_prefix(|char| matches!(char, '0'..='~'))
                .unwrap_or(rest)
        }
    }
}

/// What follows a control sequence whose introducer has been read.
fn skip_csi(text: &str) -> &str {
    let rest = text
        .trim_start_matches(|char| matches!(char, '0'..='?'))
        .trim_start_matches(|char| matches!(char, ' '..='/'));
    rest.strip_prefix(|char| matches!(char, '@'..='~'))
        .unwrap_or(rest)
}

/// Characters that show nothing, or change how their neighbours are shown: a line could
/// hide behind them or pretend to be another.
fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strips_what_terminals_interpret() {
        for (raw, expected) in [
            ("plain", "plain"),
            ("crlf\r", "crlf"),
            ("\x1b[90m.\x1b[39m\x1b[90m.\x1b[39m DONE", ".. DONE"),
            ("\x1b[32;1mDONE\x1b[39;22m\r", "DONE"),
            ("\x1b[38:2:1:2:3mx", "x"),
            ("\u{9b}31mx", "x"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]0;title\u{9c}x", "x"),
            (
                "\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\",
                "link",
            ),
            ("\x1b]0;no end", "0;no end"),
            ("\x1b(Bx", "x"),
            ("\x1b", ""),
            ("\x1bé", "é"),
            ("a\tb\x00c\x7f", "a bc"),
            ("a\u{202e}b\u{200b}c\u{feff}", "abc"),
            ("  1秒 \u{fffd}  ", "  1秒 \u{fffd}  "),
        ] {
            assert_eq!(clean(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn cuts_at_a_character() {
        assert_eq!(bounded("1秒", 3), "1");
        assert_eq!(bounded("1秒", 4), "1秒");
        let mut text = "12".to_owned();
        append(&mut text, "秒", 4);
        assert_eq!(text, "12");
    }

    #[test]
    fn unterminated_control_strings_take_linear_time() {
        let hostile = "\x1b]".repeat(MAX_LINE);
        assert_eq!(clean(&hostile), "");
    }

    proptest! {
        #[test]
        fn nothing_unprintable_is_left(raw in "\\PC*|(?s).*|(\x1b[\\[\\]P( ]?.){0,9}") {
            let cleaned = clean(&raw);
            prop_assert!(!cleaned.chars().any(is_invisible), "{cleaned:?}");
            prop_assert_eq!(clean(&cleaned), &*cleaned);
            prop_assert!(cleaned.len() <= raw.len());
        }
    }
}
