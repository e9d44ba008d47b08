//! What a scheduler writes about a job, in one spelling: its name and how long it took.

use std::sync::LazyLock;

use jiff::SignedDuration;
use regex::bytes::{Regex, RegexBuilder};

use super::clean::{bounded, clean};
use crate::message::safe;

/// The longest job name, in bytes.
const MAX_NAME: usize = 200;

/// How much of a command is looked at, in bytes: the background form names the command
/// first and Laravel's own wrapping after it.
const MAX_COMMAND: usize = 4 * 1024;

/// The longest duration that is believed. A line can say anything, and the moment that lies so far
/// back must be one.
const LONGEST_RUN: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Wrappings around a command, each with a text that it cannot be without; `command` is what is
/// inside.
static WRAPPINGS: [(&str, LazyLock<Regex>); 6] = [
    // As the task line shows it.
    ("[", LazyLock::new(|| regex(r"^\[(?<command>.+)\]$"))),
    // In the background: the command, then Laravel's own bookkeeping.
    (
        "schedule:finish",
        LazyLock::new(|| regex(r"^\((?<command>.+?)\s*; .*schedule:finish.*$")),
    ),
    (
        "start /b cmd",
        LazyLock::new(|| {
            regex(r#"^start /b cmd (?:/v:on )?/c "\((?<command>.+?) & .*schedule:finish.*$"#)
        }),
    ),
    ("&", LazyLock::new(|| regex(r"^(?<command>.+?)\s*&$"))),
    // As another user.
    (
        "sudo -u",
        LazyLock::new(|| regex(r"^sudo -u \S+ -- sh -c '(?<command>.+)'$")),
    ),
    // With its output redirected.
    (
        ">",
        LazyLock::new(|| {
            regex(
                r#"^(?<command>.+?)(?:\s+(?:[0-9]|&)?>{1,2}\s*(?:&[0-9]|'[^']*'|"[^"]*"|[^\s'"&]+))+$"#,
            )
        }),
    ),
];

/// The PHP binary with its options, and `artisan`, each quoted or not. Other commands keep
/// their directory: it can be all that tells two of them apart.
static ARTISAN: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        // A crontab's way into the application's directory.
        r#"^(?:cd\s+(?:'[^']*'|"[^"]*"|[^\s'"&;|]+)\s*(?:&&|;)\s*)?"#,
        r#"(?:(?:'[^']*php[^'/]*'|"[^"]*php[^"/]*"|[^\s'"]*php[^\s'"/]*)\s+"#,
        r#"(?:-d\s+\S+\s+|-\S+\s+)*)?"#,
        r#"(?:'(?:[^']*/)?artisan'|"(?:[^"]*/)?artisan"|(?:[^\s'"]*/)?artisan)\s+"#,
    ))
});

/// Compiles an expression for bytes: its classes hold other letters too, without all of Unicode in
/// them, which takes a starting function milliseconds. What it finds ends beside ASCII characters.
#[expect(
    clippy::expect_used,
    reason = "the patterns above, which a test compiles"
)]
fn regex(pattern: &str) -> Regex {
    let mut pattern = RegexBuilder::new(pattern);
    (pattern.unicode(false).build()).expect("a pattern of this file is valid")
}

/// The name by which a job is known, however the scheduler spells its command: without
/// PHP, `artisan`, redirections and the wrapping of background jobs, with its arguments.
/// At most 200 bytes. Of a crontab's line, `cd DIR &&` before `artisan` is left out as well, and
/// of arguments, what is secret: names stand in the state and in messages.
/// Names of closures, classes and other programs stay as they are.
///
/// ```
/// use scheduler_watchdog::line::job_name;
/// assert_eq!(job_name("'/usr/local/bin/php' 'artisan' orders:sync --since=1h > '/dev/null' 2>&1"), "orders:sync --since=1h");
/// assert_eq!(job_name(r"App\Jobs\PruneStale"), r"App\Jobs\PruneStale");
/// ```
pub fn job_name(raw: &str) -> String {
    let command = clean(bounded(raw, MAX_COMMAND));
    let mut name = command.trim();
    // Wrappings nest, and cutting can bring a new one to the end. Each round shortens.
    loop {
        let simpler = bounded(simpler(name), MAX_NAME).trim();
        if simpler.len() == name.len() {
            // What stands in place of a secret can be longer than it was.
            return bounded(&safe::command(name), MAX_NAME)
                .trim_end()
                .to_owned();
        }
        name = simpler;
    }
}

/// `name` with one wrapping less, if it has any.
fn simpler(name: &str) -> &str {
    let inner = (WRAPPINGS.iter())
        .filter(|(needed, _)| name.contains(needed))
        .find_map(|(_, wrapping)| wrapping.captures(name.as_bytes())?.name("command"))
        .and_then(|command| name.get(command.range()));
    if let Some(inner) = inner {
        return inner;
    }
    if !name.contains("artisan") {
        return name;
    }
    (ARTISAN.find(name.as_bytes()))
        .and_then(|found| name.get(found.end()..))
        .unwrap_or(name)
}

/// A duration as schedulers print it: `124.73ms`, `1,518ms`, `1m 12s`, `1 Sek.`, `1秒`,
/// `4.9e-05s`.
/// `None` where a word is unknown, or where it would be more than a year.
pub(super) fn took(text: &str) -> Option<SignedDuration> {
    // A job's own output can stand before the dots that lead to the duration.
    let text = text.rsplit_once("..").map_or(text, |(_, after)| after);
    let mut rest = text.trim_start_matches(['.', ' ']).trim_end();
    let mut milliseconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len()
            - rest
                .trim_start_matches(|char: char| char.is_ascii_digit() || matches!(char, '.' | ','))
                .len();
        let (number, after) = rest.split_at(digits + exponent(&rest[digits..]));
        let after = after.trim_start();
        let unit_ends = after
            .find(|char: char| char.is_whitespace() || char.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_ends);
        milliseconds += decimal(number)? * milliseconds_per(unit)?;
        rest = after.trim_start();
    }
    SignedDuration::try_from_secs_f64(milliseconds / 1000.0)
        .ok()
        .filter(|took| *took <= LONGEST_RUN)
        .map(|took| SignedDuration::from_micros(took.as_micros().try_into().unwrap_or(i64::MAX)))
}

/// The length of the exponent at the beginning of a text, as Python prints small numbers:
/// `e-05` of `e-05s`.
fn exponent(text: &str) -> usize {
    let Some(digits) = text.strip_prefix("e-") else {
        return 0;
    };
    let after = digits.trim_start_matches(|char: char| char.is_ascii_digit());
    if after.len() == digits.len() {
        return 0;
    }
    text.len() - after.len()
}

/// `1,518` is a thousand and more, `1,5` is between one and two.
fn decimal(number: &str) -> Option<f64> {
    match number.rsplit_once(',') {
        Some((_, fraction)) if fraction.len() != 3 => number.replace(',', ".").parse().ok(),
        _ => number.replace(',', "").parse().ok(),
    }
}

/// The short words for units of time in the languages that Carbon's users most often set;
/// those for years and months are left out: no run takes that long.
fn milliseconds_per(unit: &str) -> Option<f64> {
    const SECOND: f64 = 1000.0;
    let unit = unit.trim_end_matches('.').to_lowercase();
    Some(match unit.as_str() {
        "µs" | "μs" | "us" => 0.001,
        "ms" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" | "sek" | "seg" | "sn" | "с" | "сек" | "秒"
        | "초" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" | "dk" | "м" | "мин" | "分" | "分钟"
        | "分鐘" | "분" => 60.0 * SECOND,
        "h" | "hr" | "hrs" | "hour" | "hours" | "std" | "sa" | "ч" | "時間" | "小时" | "小時"
        | "시간" => 3600.0 * SECOND,
        "d" | "day" | "days" | "tg" | "j" | "д" | "日" | "天" | "일" => 86_400.0 * SECOND,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_job_has_one_name() {
        for spelling in [
            "redis:monitor",
            "'artisan' redis:monitor",
            "['artisan' redis:monitor]",
            "php artisan redis:monitor",
            "/usr/bin/php8.4 /var/www/html/artisan redis:monitor",
            "'/usr/local/bin/php' 'artisan' redis:monitor > '/dev/null' 2>&1",
            "'/usr/local/bin/php' 'artisan' redis:monitor >> '/dev/stdout' 2>&1",
            "\"/usr/local/bin/php\" \"artisan\" redis:monitor > '/dev/null' 2>&1",
            "('/usr/local/bin/php' 'artisan' redis:monitor > '/dev/null' 2>&1 ; '/usr/local/bin/php' 'artisan' schedule:finish \"framework/schedule-44d7\") > '/dev/null' 2>&1 &",
            "('/usr/local/bin/php' 'artisan' redis:monitor > '/dev/null' 2>&1 ; '/usr/local/bin/php' 'artisan' schedule:finish \"framework/schedule-44d7\" \"$?\") > '/dev/null' 2>&1 &",
            "sudo -u www-data -- sh -c ''/usr/local/bin/php' 'artisan' redis:monitor > '/dev/null' 2>&1'",
            "php -d memory_limit=1G artisan redis:monitor",
            "cd /var/www/html && php artisan redis:monitor >> /dev/null 2>&1",
            "  cd '/var/www/my app'; /usr/bin/php8.4 artisan redis:monitor > /dev/null",
            "\x1b[1m['artisan' redis:monitor]\x1b[22m",
        ] {
            assert_eq!(job_name(spelling), "redis:monitor", "{spelling}");
        }
    }

    #[test]
    fn other_names_stay() {
        for (raw, name) in [
            (
                "auth:monitor-dual-auth --alert",
                "auth:monitor-dual-auth --alert",
            ),
            ("purge-temp-files", "purge-temp-files"),
            ("Redis health monitor", "Redis health monitor"),
            ("App\\Jobs\\PruneStale", "App\\Jobs\\PruneStale"),
            (
                "Closure at: routes/console.php:27",
                "Closure at: routes/console.php:27",
            ),
            (
                "/usr/local/bin/backup.sh --full > '/dev/null' 2>&1",
                "/usr/local/bin/backup.sh --full",
            ),
            (
                "/usr/local/bin/backup.sh >/var/log/b.log 2>&1",
                "/usr/local/bin/backup.sh",
            ),
            ("php /srv/report.php", "php /srv/report.php"),
            (
                "cd /srv/a && ./backup.sh >> /var/log/b.log 2>&1",
                "cd /srv/a && ./backup.sh",
            ),
            (
                "cd /srv/a && php report.php artisan x",
                "cd /srv/a && php report.php artisan x",
            ),
            ("artisan", "artisan"),
            ("", ""),
        ] {
            assert_eq!(job_name(raw), name);
        }
        assert_eq!(job_name(&"ä".repeat(150)).len(), 200);
        let hidden = job_name(&format!("a:b{}", " token=x".repeat(24)));
        assert!((100..=200).contains(&hidden.len()), "{hidden}");
        assert_eq!(job_name(&hidden), hidden);
    }

    #[test]
    fn durations_of_many_places() {
        for (text, milliseconds) in [
            ("12.34ms", Some(12.34)),
            ("0ms", Some(0.0)),
            ("250µs", Some(0.25)),
            ("124.73ms", Some(124.73)),
            ("1,518ms", Some(1518.0)),
            ("1s", Some(1000.0)),
            ("1m 12s", Some(72_000.0)),
            ("1h 2m 3s", Some(3_723_000.0)),
            ("1 Sek.", Some(1000.0)),
            ("1 Min. 12 Sek.", Some(72_000.0)),
            ("1秒", Some(1000.0)),
            ("1分 12秒", Some(72_000.0)),
            ("1,5 s", Some(1500.0)),
            ("0.00031553799999528565s", Some(0.315)),
            ("4.941399993185769e-05s", Some(0.049)),
            ("1e-s", None),
            (". 12ms", Some(12.0)),
            ("purged 12 files......... 0.13ms", Some(0.13)),
            ("1 mgnt", None),
            ("ثانية", None),
            ("12", None),
            ("1..2 s", Some(2000.0)),
            ("366d", Some(366.0 * 86_400_000.0)),
            ("367d", None),
            ("9999999d", None),
            ("", None),
        ] {
            let expected = milliseconds
                .map(|ms: f64| SignedDuration::from_micros((ms * 1000.0).round() as i64));
            assert_eq!(took(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_name_stays(raw in "[ -~é]{0,300}|(php |cd /a && |'artisan' |[a-z:]{1,9}| > '/dev/null'| 2>&1| &|\\[|\\]){0,9}") {
            let name = job_name(&raw);
            prop_assert!(name.len() <= MAX_NAME);
            prop_assert_eq!(job_name(&name), name);
        }

        #[test]
        fn any_duration_is_survived(text in "(?s).{0,60}|[0-9.,]{1,400}(ms|s|d)") {
            prop_assert!(took(&text).is_none_or(|took| took <= LONGEST_RUN));
        }
    }
}
