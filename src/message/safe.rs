//! Text from logs, AWS and configuration → text that may be sent to people.
//!
//! What is printed by other programs can hold secrets, terminal escapes, and markup that would
//! notify a whole Slack channel. Hiding too much is the lesser evil: whoever needs the hidden
//! part can read it in the log.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::pattern::{Expression, Index};

/// The longest evidence line, in bytes. Long enough for a message of a database driver, short
/// enough for a phone.
pub const MAX_EVIDENCE: usize = 400;

/// The most entries of a list that a message shows.
pub const MAX_LIST: usize = 20;

/// What stands in place of what was hidden.
const HIDDEN: &str = "[hidden]";

/// One line of evidence: no control characters, no secrets, at most [`MAX_EVIDENCE`] bytes.
pub fn evidence(text: &str) -> String {
    // What lies so far behind is cut away in any case; a line of a megabyte costs nothing.
    let near = &text[..text.floor_char_boundary(10 * MAX_EVIDENCE)];
    cut(&redact(&line(near)), MAX_EVIDENCE)
}

/// The strings within a JSON value made safe as evidence is, jobs as [`job`] does, and its lists
/// cut to [`MAX_LIST`] entries. Keys are the program's own.
pub fn json(value: Value) -> Value {
    json_by(value, evidence)
}

fn json_by(value: Value, safe: fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(safe(&text)),
        Value::Array(list) => (list.into_iter().take(MAX_LIST))
            .map(|value| json_by(value, safe))
            .collect(),
        Value::Object(map) => (map.into_iter())
            .map(|(key, value)| {
                let names_jobs = matches!(key.as_str(), "job" | "jobs" | "names");
                let value = json_by(value, if names_jobs { job } else { safe });
                (key, value)
            })
            .collect(),
        other => other,
    }
}

/// A job's name, or what else a message is about.
pub fn job(name: &str) -> String {
    cut(&command(&line(name)), MAX_EVIDENCE)
}

/// Every string within a JSON value, changed.
pub fn each_text(value: Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(&text)),
        Value::Array(list) => (list.into_iter())
            .map(|value| each_text(value, change))
            .collect(),
        Value::Object(map) => (map.into_iter())
            .map(|(key, value)| (key, each_text(value, change)))
            .collect(),
        other => other,
    }
}

/// Text without e-mail addresses, those with `%40` and those that were cut included.
pub fn hide_emails(text: &str) -> String {
    if !text.contains('@') && !text.contains("%40") {
        return text.to_owned();
    }
    EMAIL.replace_all(&line(text), HIDDEN).into_owned()
}

/// An address whose host has a dot, because `user@localhost` is nobody's, or was cut off.
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    compile(r"[\w.+%~-]*[\w+~-](?:@|%40)(?:(?:[\p{L}\p{N}-]+\.)+\p{L}{2,}|[\p{L}\p{N}.-]*…)")
});

/// At most `most` bytes, cut at a character's boundary, with an ellipsis where something is
/// missing.
pub fn cut(text: &str, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..end])
}

/// Everything on one line, without characters that a reader cannot see.
pub fn line(text: &str) -> String {
    let text = ESCAPE.replace_all(text, "");
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        let char = if char.is_whitespace() {
            ' '
        } else if char.is_control() || is_invisible(char) {
            continue;
        } else {
            char
        };
        if char != ' ' || !out.ends_with(' ') {
            out.push(char);
        }
    }
    out.trim().to_owned()
}

/// A value from configuration, such as a name, fit to stand in a command: without invisible
/// characters, otherwise untouched, because a name that was changed would not be found.
pub fn name(text: &str) -> String {
    (text.chars())
        .filter(|char| !char.is_control() && !is_invisible(*char))
        .collect()
}

/// Characters that reorder or hide text: bidirectional controls, joiners, line separators,
/// tags, annotations, and the byte order mark.
fn is_invisible(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Terminal escapes: CSI and OSC sequences, and those of two characters.
static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?:\x1b\[|\u{9b})[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]",
    )
});

/// What is hidden, in this order. A group named `keep` stays; one named `value` that says
/// only yes or no stays as well, and so does what `su` prints behind its prompt.
const MARKED: [&str; 21] = [
    // Private keys, also where the end was cut off.
    r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)",
    // Laravel appends the statement with its bindings: (Connection: x, …, SQL: …).
    r"(?s)(?<keep>\bSQL:\s*).*",
    // Drivers quote the statement and the values as well.
    r"(?s)(?<keep>\b(?:LINE [0-9]+|DETAIL|CONTEXT|QUERY|STATEMENT):\s*).*",
    r"(?<keep>(?i:duplicate entry|incorrect \w+ value:?|invalid input syntax for type \w+:)\s*).*?(?<end>for (?:key|column)|$)",
    // Credentials in URLs. A password may itself hold any character but a blank.
    r"(?<keep>://)\S*(?<end>@)",
    // Arguments in PHP's stack frames: PDO->__construct('mysql:host=…', 'user', 'password').
    r"(?<keep>#[0-9]+ [^()]*\([0-9]+\): [^()]*\()[^)]+",
    // Addresses that are secrets themselves: whoever knows them may post there.
    r"(?i)(?<keep>/(?:incoming-?)?webhooks?(?:b2)?/)\S+",
    // Headers whose whole value is secret.
    r#"(?i)(?<keep>\b(?:proxy-)?(?:authorization|set-cookie|cookie)\\*["']?\s*(?:=>|[:=])\s*).*"#,
    r"(?i)(?<keep>\b(?:bearer|basic|digest|aws4-hmac-sha256)\s+)[A-Za-z0-9._~+/=,:-]{6,}",
    // Tokens that can be told by their shape.
    r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){0,4}",
    r"\b(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA|AGPA|ANPA|APKA)[A-Z0-9]{4,}",
    r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|xapp-|sk-|[sr]k_(?:live|test)_|whsec_|SG\.|AIza|ya29\.|npm_|pypi-|dop_v1_)[A-Za-z0-9._-]{8,}",
    r"(?<keep>hooks\.slack\.com/)\S+",
    r"\bbase64:[A-Za-z0-9+/=]{16,}",
    // Passwords as arguments: --password x, and in the clients' own short forms.
    r"(?i)(?<keep>(?:^|\s)--?(?:password|passwd|pwd|token|secret|api-?key)[= ]+)\S+",
    r"(?<keep>\b(?:mysql(?:dump|admin)?|mariadb(?:-dump|-admin)?)\b[^|;&]*?\s-p)\S+",
    r"(?<keep>\b(?:redis-cli\b[^|;&]*?\s-a|sshpass\b[^|;&]*?\s-p|curl\b[^|;&]*?\s(?:-u|--user))[ =]?)\S+",
    r"(?i)(?<keep>\bidentified by\s+)\S+",
    // A row's values, as PostgreSQL tells them.
    r"(?<keep>\bKey \([^)]*\)=)\([^)]*\)?",
    r"(?i)(?<keep><(?:\w+:)?\w*(?:password|passwd|secret|token|api_?key)\w*>)[^<]*",
    // Key and value: password=…, "api_key": "…", 'secret' => '…', also in escaped JSON.
    r#"(?ix)
    (?<keep>
        [\w.-]*
        (?: passw(?:or)?d | passwd | passphrase | pwd | pass\b | パスワード | secret | token | credential
          | api[_-]?key | (?:access|private|signing|encryption|license|service|auth|app)[_-]?key
          | signature | \bsig\b | sess(?:ion)?[_-]?id | _auth\b | \botp\b )
        [\w.-]*
        \\*["']? \s* (?: => | [:=：] ) \s*
    )
    (?<value>
        \[hidden\]
        | \\*" [^"]* "?
        | ' [^']* '?
        | [^\s,;&)}\]"']+
    )"#,
];

static SECRET: LazyLock<[Expression; 21]> = LazyLock::new(|| MARKED.map(Expression::new));

/// Most texts hold nothing of the kind, and most of the expressions are never needed.
static WORDS: LazyLock<Index> = LazyLock::new(|| Index::new(SECRET.iter()));

/// The length of AWS's secret keys.
const LONG_TOKEN: usize = 40;

/// Characters as AWS makes its secret keys of.
static LONG: LazyLock<Regex> =
    LazyLock::new(|| compile(&format!("[A-Za-z0-9/+=_-]{{{LONG_TOKEN},}}")));

/// Replaces what may be secret: keys, tokens, passwords, credentials in URLs, the bindings of
/// SQL statements.
pub fn redact(text: &str) -> String {
    let text = redact_marked(text);
    if text.len() < LONG_TOKEN {
        return text;
    }
    let long = LONG.replace_all(&text, |found: &Captures<'_>| {
        let token = &found[0];
        let count = |is: fn(&char) -> bool| token.chars().filter(is).count();
        // Paths, class names and hexadecimal ids are as long, but not as mixed. A secret key of
        // AWS has 40 characters, now and then with a single digit among them.
        let least_digits = if token.len() == LONG_TOKEN { 1 } else { 2 };
        let mixed = count(char::is_ascii_uppercase) >= 3
            && count(char::is_ascii_lowercase) >= 3
            && count(char::is_ascii_digit) >= least_digits;
        let path = token.starts_with('/') || token.matches('/').count() > 4;
        if mixed && !path { HIDDEN } else { token }.to_owned()
    });
    long.into_owned()
}

/// Replaces what is known to be secret by the words around it or by its shape. Unlike
/// [`redact`] it leaves long names alone: those of tables and topics, say.
pub fn redact_marked(text: &str) -> String {
    // Words and ids, such as the parts of a stream's name, are no secret to any of the expressions, and to
    // prepare them takes a starting function a while.
    if text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    {
        return text.to_owned();
    }
    let possible = WORDS.possible(text);
    let secrets = SECRET
        .iter()
        .zip(possible)
        .filter(|(_, is_possible)| *is_possible);
    redact_by(text, secrets.map(|(secret, _)| secret))
}

fn redact_by<'s>(text: &str, secrets: impl Iterator<Item = &'s Expression>) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        text = (secret.regex().replace_all(&text, |found: &Captures<'_>| {
            let part = |name| found.name(name).map_or("", |part| part.as_str());
            let value = part("value");
            let plain = matches!(
                value.to_ascii_lowercase().as_str(),
                "yes" | "no" | "true" | "false" | "null" | "none" | "su:"
            );
            let shown = if plain { value } else { HIDDEN };
            let (keep, end) = (part("keep"), part("end"));
            // The end of a sentence that was cut away needs its blank back.
            let gap = if end.starts_with("for") { " " } else { "" };
            format!("{keep}{shown}{gap}{end}")
        }))
        .into_owned();
    }
    text
}

/// A command by which a job is known, without the secrets among its arguments. `tokens:prune` is
/// the name of a command, and no token.
pub fn command(text: &str) -> String {
    let (name, arguments) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let is_word = |part: &str| {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(fits)
    };
    if name.contains(':') && name.split(':').all(is_word) {
        format!("{name}{}", redact(arguments))
    } else {
        redact(text)
    }
}

/// The name of a log stream without secrets. Its parts are looked at one by one: together they
/// are long, and mixed, and no token.
pub fn stream(text: &str) -> String {
    let parts: Vec<String> = text.split('/').map(|part| redact(&name(part))).collect();
    parts.join("/")
}

/// Text that Slack shows as it is: nothing in it can become a mention, a link or formatting.
///
/// Slack knows no escape for its formatting characters, so look-alikes take their place where
/// they could act. Names inside of commands stand in [`code`], where none is needed.
pub fn defuse(text: &str) -> String {
    let text = text.replace("://", ": //");
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        let after = rest.peek().copied();
        let within = |side: Option<char>| side.is_some_and(char::is_alphanumeric);
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '`' => out.push('ˋ'),
            '*' => out.push('∗'),
            '~' => out.push('∼'),
            '_' if !(within(before) && within(after)) => out.push('＿'),
            '@' if !within(before) => out.push('＠'),
            other => out.push(other),
        }
        before = Some(char);
    }
    out
}

/// Text as Slack's inline code, in which only `&`, `<`, `>` and the backtick can act.
pub fn code(text: &str) -> String {
    format!("`{}`", escape(&text.replace('`', "ˋ")))
}

/// Slack's three entities.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// One word of a shell command.
pub fn shell(text: &str) -> String {
    let text = name(text);
    let bare = |char: char| char.is_ascii_alphanumeric() || "_./:@%+=,-".contains(char);
    let calm = |char: char| !"\"$`\\!".contains(char);
    if !text.is_empty() && text.chars().all(bare) {
        text
    } else if text.chars().all(calm) {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// ASCII only, on one line, for SNS subjects.
pub fn ascii(text: &str) -> String {
    let text = line(text);
    (text.chars())
        .map(|char| if char.is_ascii() { char } else { '?' })
        .collect()
}

#[expect(
    clippy::expect_used,
    reason = "constants; the tests compile all of them"
)]
fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid regular expression")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_hidden() {
        for (text, shown) in [
            (
                "key AKIAIOSFODNN7EXAMPLE is denied",
                "key [hidden] is denied",
            ),
            ("password=hunter2 rest", "password=[hidden] rest"),
            (
                r#"{"db_password":"a b\"c","user":"x"}"#,
                r#"{"db_password":[hidden]c","user":"x"}"#,
            ),
            (
                r#"{\"api_key\":\"abc def\",\"n\":1}"#,
                r#"{\"api_key\":[hidden],\"n\":1}"#,
            ),
            (
                "'secret' => 'two words', 'x' => 1",
                "'secret' => [hidden], 'x' => 1",
            ),
            ("DB_PASSWORD: s3cr3t", "DB_PASSWORD: [hidden]"),
            ("pwd = x; uid=root", "pwd = [hidden]; uid=root"),
            (
                "redis://user:p@ss/w@host:6379/0",
                "redis://[hidden]@host:6379/0",
            ),
            (
                "https://token@github.com/x",
                "https://[hidden]@github.com/x",
            ),
            (
                "Authorization: Bearer abcdef.ghi",
                "Authorization: [hidden]",
            ),
            ("sent Bearer abcdefghi", "sent Bearer [hidden]"),
            ("Cookie: a=b; c=d", "Cookie: [hidden]"),
            (
                "t eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_def e",
                "t [hidden] e",
            ),
            (
                "SQLSTATE[42S02]: gone (Connection: mysql, Host: h, SQL: select * from u where mail = a@b.c)",
                "SQLSTATE[42S02]: gone (Connection: mysql, Host: h, SQL: [hidden]",
            ),
            (
                "Duplicate entry 'a@b.c' for key 'users_email'",
                "Duplicate entry [hidden] for key 'users_email'",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- x",
                "[hidden] x",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", "[hidden]"),
            ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "[hidden]"),
            ("mysql --password s3cret x", "mysql --password [hidden] x"),
            (
                "APP_KEY=base64:AAAAAAAAAAAAAAAAAAAAAAAA",
                "APP_KEY=[hidden]",
            ),
            ("pass\u{0}word=\u{202e}x y", "password=[hidden] y"),
            ("passw\u{200b}ord=x y", "password=[hidden] y"),
        ] {
            assert_eq!(evidence(text), shown, "{text}");
            assert_eq!(evidence(&evidence(text)), shown, "{text}");
        }
    }

    #[test]
    fn what_proves_a_cause_is_shown() {
        for text in [
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled. [tcp://127.0.0.1:6390]",
            "SQLSTATE[HY000] [1045] Access denied for user 'laravel'@'localhost' (using password: YES)",
            "FATAL: password authentication failed for user \"laravel\"",
            "syntax error, unexpected token \"}\", expecting \"(\"",
            "Class \"App\\Services\\Billing\\TokenRepository\" not found",
            "/var/www/html/vendor/laravel/framework/src/Illuminate/Redis/Connectors/PhpRedisConnector.php:185",
            "task 0123456789abcdef0123456789abcdef stopped",
            "fopen(/var/www/html/storage/framework/cache/data/78/f2/78f28c10af182f3cd28cd043b349b29c2b8e0b58)",
            "Password: su: Authentication failure",
            "CannotPullContainerError: manifest unknown",
            "ResourceInitializationError: unable to pull secrets or registry auth: timed out",
        ] {
            assert_eq!(evidence(text), text);
        }
    }

    proptest! {
        /// No expression hides a part of a word of small letters and digits.
        #[test]
        fn words_are_no_secret(word in prop_oneof![
            "[a-z0-9]{0,60}",
            "(pass|password|token|bearer|basic|secret|sig|otp|sk|npm|pypi|curl|mysql|key|eyj|akia){1,4}[a-z0-9]{0,40}",
        ]) {
            prop_assert_eq!(redact_by(&word, SECRET.iter()), word.clone());
            prop_assert_eq!(redact(&word), word);
        }

        /// The words that expressions require leave none out that would hide something.
        #[test]
        fn words_leave_no_secret(
            parts in proptest::collection::vec(
                prop_oneof![
                    proptest::sample::select(vec![
                        "password", "PWD", "Token", "secret", "パスワード", "api_key", "sig", "otp", "=",
                        ": ", " => ", "hunter2", "Bearer ", "eyJabcdefgh", "AKIAIOSFODNN7", "ghp_",
                        "xoxb-", "sk-", "SQL: ", "DETAIL: ", "for key", "Duplicate entry ", "://",
                        "u:p", "@host", "#1 a(1): b(", "/webhook/", "Cookie: ", "--token ", "-p",
                        "mysql ", "curl -u ", "identified by ", "Key (a)=(b)", "<password>", "base64:",
                        "0123456789abcdefABCDEF", "hooks.slack.com/", "-----BEGIN PRIVATE KEY-----",
                    ]).prop_map(str::to_owned),
                    "\\PC{0,6}",
                ],
                0..8,
            ),
        ) {
            let text = parts.concat();
            prop_assert_eq!(redact_marked(&text), redact_by(&text, SECRET.iter()));
        }
    }

    #[test]
    fn commands_keep_their_names() {
        for (text, shown) in [
            ("tokens:prune", "tokens:prune"),
            (
                "secrets:rotate --token=abc now",
                "secrets:rotate --token=[hidden] now",
            ),
            (
                "user:create --password hunter2",
                "user:create --password [hidden]",
            ),
            (
                "curl -u app:hunter2 https://example.com/",
                "curl -u [hidden] https://example.com/",
            ),
            ("token:Hunter2", "token:[hidden]"),
            ("password=hunter2", "password=[hidden]"),
        ] {
            assert_eq!(command(text), shown);
            assert_eq!(command(shown), shown);
        }
    }

    #[test]
    fn streams_keep_their_tasks() {
        for (text, shown) in [
            (
                "MyTeacherProduction/app/0123456789abcdef0123456789abcdef",
                "MyTeacherProduction/app/0123456789abcdef0123456789abcdef",
            ),
            (
                "2026/11/24/[$LATEST]0123456789abcdef",
                "2026/11/24/[$LATEST]0123456789abcdef",
            ),
            ("app/token=abc/0123", "app/token=[hidden]/0123"),
        ] {
            assert_eq!(stream(text), shown);
        }
    }

    #[test]
    fn terminal_escapes_vanish_whole() {
        assert_eq!(
            evidence("\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}!"),
            "red!"
        );
    }

    #[test]
    fn what_stands_behind_many_escapes_is_shown() {
        let text = format!("{}the error", "\u{1b}[31m".repeat(200));
        assert_eq!(evidence(&text), "the error");
    }

    /// Forty characters and more of all kinds are a path, or a secret.
    #[test]
    fn long_paths_are_told_from_keys() {
        for path in [
            "/var/www/App1/Models2/Users3/LongerNameHere45678",
            "/srv-App1Models2Users3Settings4LongerNameHere5678",
            "App1/Models2/Users3/Settings4/LongerName5/Here67",
        ] {
            assert_eq!(evidence(path), path);
        }
        for key in [
            "App1Models2Users3Settings4LongerName5Here67890abcD",
            "wJalr/XUtnFE/MIK7MD/ENGbPx/RfiCYEXAMPLEK7",
        ] {
            assert_eq!(evidence(key), HIDDEN, "{key}");
        }
    }

    #[test]
    fn slack_markup_is_dead() {
        assert_eq!(
            defuse("<!channel> *b* _i_ a_b ~s~ `c` @here a@b <http://x|y>"),
            "&lt;!channel&gt; ∗b∗ ＿i＿ a_b ∼s∼ ˋcˋ ＠here a@b &lt;http: //x|y&gt;"
        );
    }

    #[test]
    fn shell_words() {
        assert_eq!(shell("/ecs/app-1"), "/ecs/app-1");
        assert_eq!(
            shell("php artisan schedule:list"),
            "\"php artisan schedule:list\""
        );
        assert_eq!(shell("a'b$(c)"), r"'a'\''b$(c)'");
        assert_eq!(shell(""), "\"\"");
        assert_eq!(shell("a\nb"), "ab");
    }
}
