//! The text of a query. What comes from the configuration stands inside of a regular
//! expression's literal, and cannot leave it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The longest text that StartQuery takes, in characters.
const MOST_CHARS: usize = 10_000;

/// The scheduler's own lines. `coarse` is the body of a regular expression without regard to
/// case that leaves out most others; it saves transfer, and decides nothing.
pub(super) fn log(prefix: &str, coarse: Option<&str>, limit: usize) -> String {
    let fields = "@timestamp, @ingestionTime, @logStream, @message";
    let filter = (coarse.filter(|body| !body.is_empty()))
        .map(|body| format!("| filter @message like /(?i)({})/\n", literal(body)))
        .unwrap_or_default();
    let query = text(fields, &[prefix], &filter, limit);
    if query.chars().count() <= MOST_CHARS {
        return query;
    }
    text(fields, &[prefix], "", limit)
}

/// The lines of several schedulers, at least: what any of their own queries would return. None if
/// that text is too long.
pub(super) fn shared(prefixes: &[&str], coarse: &[Option<&str>], limit: usize) -> Option<String> {
    let fields = "@timestamp, @ingestionTime, @logStream, @message";
    let bodies: Option<BTreeSet<&str>> = coarse.iter().copied().collect();
    // Who has no filter needs all lines.
    let filter = (bodies.filter(|bodies| !bodies.contains("")))
        .map(|bodies| {
            let bodies: Vec<String> = (bodies.iter())
                .map(|body| format!("(?:{})", literal(body)))
                .collect();
            format!("| filter @message like /(?i)({})/\n", bodies.join("|"))
        })
        .unwrap_or_default();
    let query = text(fields, prefixes, &filter, limit);
    (query.chars().count() <= MOST_CHARS).then_some(query)
}

/// Lines of any kind; only their times and streams.
pub(super) fn probe(prefix: &str, limit: usize) -> String {
    text("@timestamp, @logStream", &[prefix], "", limit)
}

/// No lines, but all are scanned for them: AWS tells how many bytes they had.
pub(super) fn volume() -> String {
    text(
        "@timestamp, @logStream",
        &[""],
        "| filter @message = \"\"\n",
        1,
    )
}

fn text(fields: &str, prefixes: &[&str], filter: &str, limit: usize) -> String {
    let distinct: BTreeSet<&str> = prefixes.iter().copied().collect();
    let quoted: Vec<String> = distinct.iter().map(|prefix| quoted(prefix)).collect();
    let streams = match quoted.as_slice() {
        _ if distinct.contains("") => String::new(),
        [prefix] => format!("| filter @logStream like /^{prefix}/\n"),
        prefixes => format!("| filter @logStream like /^(?:{})/\n", prefixes.join("|")),
    };
    format!("fields {fields}\n{streams}{filter}| sort @timestamp desc\n| limit {limit}")
}

/// A regular expression that matches exactly `text`, for between two slashes.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if must_be_a_number(c) => push_number(&mut quoted, c),
            c if c.is_ascii_punctuation() && !matches!(c, '_' | '-' | '<' | '>') => {
                quoted.push('\\');
                quoted.push(c);
            }
            c => quoted.push(c),
        }
    }
    quoted
}

/// The body of a valid regular expression, for between two slashes.
fn literal(body: &str) -> String {
    let mut literal = String::with_capacity(body.len() + 8);
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        let (escape, c) = match c {
            '\\' => match chars.next() {
                Some(next) => ("\\", next),
                // No valid expression ends so.
                None => ("\\", '\\'),
            },
            c => ("", c),
        };
        match c {
            '/' => literal.push_str(r"\/"),
            c if must_be_a_number(c) => push_number(&mut literal, c),
            c => {
                literal.push_str(escape);
                literal.push(c);
            }
        }
    }
    literal
}

/// Control characters would break the query's lines. A backslash of its own, written as two,
/// could be taken for the escape of a slash that follows.
fn must_be_a_number(c: char) -> bool {
    c == '\\' || c.is_control()
}

/// All control characters lie below U+00A0, so two digits are enough; every dialect knows them.
fn push_number(text: &mut String, c: char) {
    let _ = write!(text, r"\x{:02x}", u32::from(c));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn the_queries_read_as_designed() {
        insta::assert_snapshot!(log("app/", Some("ready to run|artisan/x"), 10_000), @r"
        fields @timestamp, @ingestionTime, @logStream, @message
        | filter @logStream like /^app\//
        | filter @message like /(?i)(ready to run|artisan\/x)/
        | sort @timestamp desc
        | limit 10000
        ");
        insta::assert_snapshot!(log("", None, 10_000), @r"
        fields @timestamp, @ingestionTime, @logStream, @message
        | sort @timestamp desc
        | limit 10000
        ");
        insta::assert_snapshot!(probe("app/web", 1_000), @r"
        fields @timestamp, @logStream
        | filter @logStream like /^app\/web/
        | sort @timestamp desc
        | limit 1000
        ");
    }

    #[test]
    fn a_shared_query_asks_for_what_anybody_needs() {
        let both = ["ready to run", "due task", "ready to run"].map(Some);
        insta::assert_snapshot!(shared(&["app/", "beat/", "app/"], &both, 10_000).unwrap(), @r"
        fields @timestamp, @ingestionTime, @logStream, @message
        | filter @logStream like /^(?:app\/|beat\/)/
        | filter @message like /(?i)((?:due task)|(?:ready to run))/
        | sort @timestamp desc
        | limit 10000
        ");
        // Somebody needs all streams, and somebody all lines.
        let some = [Some("ready to run"), None];
        insta::assert_snapshot!(shared(&["app/", ""], &some, 10_000).unwrap(), @r"
        fields @timestamp, @ingestionTime, @logStream, @message
        | sort @timestamp desc
        | limit 10000
        ");
        let long = "x".repeat(6_000);
        let both = [long.as_str(), "a"].map(Some);
        assert_eq!(shared(&[&long, "app/"], &both, 10), None);
    }

    #[test]
    fn a_filter_that_is_empty_or_too_long_is_left_out() {
        let without = log("app/", None, 10);
        assert_eq!(log("app/", Some(""), 10), without);
        assert_eq!(log("app/", Some(&"漢".repeat(10_000)), 10), without);
        // Characters count, not bytes.
        assert_ne!(log("app/", Some(&"漢".repeat(9_000)), 10), without);
    }

    /// Valid expressions of all sorts, written to provoke.
    fn expression() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "\\PC{0,8}".prop_map(|text| regex::escape(&text)),
            Just("/".to_owned()),
            Just(r"\/".to_owned()),
            Just(r"\\".to_owned()),
            Just(r"[\\/]".to_owned()),
            Just("\n| limit 1\n".to_owned().replace('|', r"\|")),
            Just(r"a\\/ | stats count\(\) by @log /".to_owned()),
            Just("(?:x|y)".to_owned()),
            Just("\u{2028}\u{85}\u{0}".to_owned()),
            Just("[\u{1b}\r\n/]".to_owned()),
        ];
        proptest::collection::vec(part, 0..6)
            .prop_map(|parts| parts.concat())
            .prop_filter("valid", |body| Regex::new(body).is_ok())
    }

    proptest! {
        #[test]
        fn no_configured_value_leaves_its_literal(prefix in any::<String>(), body in prop_oneof![any::<String>(), expression()]) {
            let query = log(&prefix, Some(&body), 10_000);
            let plain = |c: char| !c.is_control() || c == '\n';
            prop_assert!(query.chars().all(plain), "{query:?}");
            let lines: Vec<&str> = query.split('\n').collect();
            let stages = 3 + usize::from(!prefix.is_empty()) + usize::from(!body.is_empty());
            prop_assert_eq!(lines.len(), stages, "{}", query);
            let mut filters = lines[1..stages - 2].to_vec();
            prop_assert_eq!(&lines[stages - 2..], ["| sort @timestamp desc", "| limit 10000"]);
            if !body.is_empty() {
                let message = filters.pop().unwrap();
                prop_assert!(is_one_literal(message, "| filter @message like /(?i)(", ")/"), "{}", message);
            }
            if !prefix.is_empty() {
                let streams = filters.pop().unwrap();
                prop_assert!(is_one_literal(streams, "| filter @logStream like /^", "/"), "{}", streams);
            }
            prop_assert!(filters.is_empty());
        }

        #[test]
        fn a_shared_query_holds_the_same_literals(
            prefixes in proptest::collection::vec(any::<String>(), 2..4),
            bodies in proptest::collection::vec(expression(), 2..4),
        ) {
            let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            let all = !prefixes.contains(&"");
            let filtered = bodies.iter().all(|body| !body.is_empty());
            let bodies: Vec<Option<&str>> = bodies.iter().map(|body| Some(body.as_str())).collect();
            let query = shared(&prefixes, &bodies, 10_000).unwrap();
            let lines: Vec<&str> = query.split('\n').collect();
            prop_assert_eq!(lines.len(), 3 + usize::from(all) + usize::from(filtered), "{}", query);
            for filter in &lines[1..lines.len() - 2] {
                let own = ["| filter @message like /(?i)(", "| filter @logStream like /^"];
                let before = own.iter().find(|before| filter.starts_with(*before)).unwrap();
                prop_assert!(is_one_literal(filter, before, "/"), "{}", filter);
            }
        }

        #[test]
        fn a_prefix_matches_itself_and_nothing_else(prefix in "\\PC{1,12}|.{1,12}", other in "\\PC{0,12}") {
            let pattern = format!("^{}", quoted(&prefix));
            let pattern = Regex::new(&pattern).unwrap();
            let extended = format!("{prefix}{other}");
            prop_assert!(pattern.is_match(&prefix));
            prop_assert!(pattern.is_match(&extended));
            prop_assert_eq!(pattern.is_match(&other), other.starts_with(&prefix));
        }

        #[test]
        fn a_filter_finds_what_its_expression_finds(body in expression(), text in "\\PC{0,20}|[\\\\/|x y\n]{0,9}") {
            let before = Regex::new(&body).unwrap();
            let after = Regex::new(&literal(&body)).unwrap();
            prop_assert_eq!(before.is_match(&text), after.is_match(&text), "{}", literal(&body));
        }
    }

    /// Whether the stage is `before`, a body that ends where it should, and `after`. AWS does
    /// not say whether a backslash before a slash escapes it also where another backslash
    /// precedes; so the body must read the same either way.
    fn is_one_literal(stage: &str, before: &str, after: &str) -> bool {
        let Some(body) = stage
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
        else {
            return false;
        };
        let mut escaped = false;
        for c in body.chars() {
            if c == '/' && !escaped {
                return false;
            }
            if c == '\\' && escaped {
                return false;
            }
            escaped = c == '\\';
        }
        !escaped
    }
}
