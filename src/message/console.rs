//! Links into the AWS console.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::config::{Ecs, EcsTarget, Scheduler};

/// Links longer than this are cut by some mail readers and by Slack. Where the watchdog's own
/// filter would make one, [`WORDS`] take its place.
const LONGEST: usize = 1_900;

/// What most lines of schedulers and most errors hold; without a filter, a busy application's
/// other lines would fill the page.
const WORDS: &str =
    "schedul|running|task|job|error|exception|fatal|critical|denied|refused|killed|memory";

/// Logs Insights with the watchdog's query, ready to run over that span.
pub(super) fn logs(
    region: &str,
    scheduler: &Scheduler,
    from: Timestamp,
    until: Timestamp,
) -> String {
    let link = |query: &str| insights(region, &scheduler.log_groups, query, from, until);
    let filter = scheduler.preset.coarse_filter();
    let full = filter.map(|filter| link(&query(scheduler, Some(filter))));
    let fits = |link: &String| link.len() <= LONGEST;
    (full.filter(fits))
        .or_else(|| Some(link(&query(scheduler, Some(WORDS)))).filter(fits))
        .unwrap_or_else(|| link(&query(scheduler, None)))
}

/// The service in ECS, or the cluster's tasks where there is no service.
pub(super) fn tasks(region: &str, ecs: &Ecs) -> String {
    let cluster = percent(&ecs.cluster);
    let page = match &ecs.target {
        EcsTarget::Service(service) => format!("services/{}/health", percent(service)),
        EcsTarget::TaskDefinition { .. } => "tasks".to_owned(),
    };
    format!(
        "{}/ecs/v2/clusters/{cluster}/{page}?region={}",
        console(region),
        percent(region)
    )
}

fn console(region: &str) -> String {
    let domain = if region.starts_with("cn-") {
        "console.amazonaws.cn"
    } else if region.starts_with("us-gov-") {
        "console.amazonaws-us-gov.com"
    } else {
        "console.aws.amazon.com"
    };
    format!("https://{}.{domain}", percent(region))
}

fn query(scheduler: &Scheduler, filter: Option<&str>) -> String {
    let mut query = "fields @timestamp, @logStream, @message".to_owned();
    let prefix = &scheduler.log_stream_prefix;
    if !prefix.is_empty() {
        let prefix = regex::escape(prefix).replace('/', r"\/");
        // Writing to a string cannot fail.
        let _ = write!(query, "\n| filter @logStream like /^{prefix}/");
    }
    if let Some(filter) = filter {
        let filter = filter.replace(r"\/", "/").replace('/', r"\/");
        let _ = write!(query, "\n| filter @message like /(?i)({filter})/");
    }
    query + "\n| sort @timestamp desc\n| limit 1000"
}

/// The console keeps its state behind the `#` as an object in its own notation, in which `~`
/// separates, `(` and `)` enclose, and `'` begins a string; other characters of strings are
/// written `*` and their code. The whole is percent-encoded twice, the second time with `$`
/// for `%`.
fn insights(
    region: &str,
    groups: &[String],
    query: &str,
    from: Timestamp,
    until: Timestamp,
) -> String {
    let mut detail = format!(
        "~(end~'{}~start~'{}~timeType~'ABSOLUTE~tz~'UTC~editorString~'{}~source~(",
        object_string(&format!("{until:.3}")),
        object_string(&format!("{from:.3}")),
        object_string(query),
    );
    for group in groups {
        detail.push_str("~'");
        detail.push_str(&object_string(group));
    }
    detail.push_str("))");
    let detail: String = (detail.chars())
        .map(|char| match char {
            '~' => "$257E".to_owned(),
            '(' => "$2528".to_owned(),
            ')' => "$2529".to_owned(),
            '\'' => "$2527".to_owned(),
            other => other.to_string(),
        })
        .collect();
    format!(
        "{}/cloudwatch/home?region={}#logsV2:logs-insights$3FqueryDetail$3D{detail}",
        console(region),
        percent(region)
    )
}

fn object_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) => {
                out.push(char::from(byte));
            }
            Ok(byte) => {
                let _ = write!(out, "*{byte:02x}");
            }
            Err(_) => {
                let _ = write!(out, "**{unit:04x}");
            }
        }
    }
    out
}

fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Undoes what the console undoes, back to its object notation.
    fn decode(link: &str) -> String {
        let (_, detail) = link.split_once("$3FqueryDetail$3D").unwrap();
        let once = detail.replace("$25", "%");
        let twice = once
            .replace("%7E", "~")
            .replace("%28", "(")
            .replace("%29", ")")
            .replace("%27", "'");
        let mut out = String::new();
        let mut rest = twice.chars();
        while let Some(char) = rest.next() {
            if char == '*' {
                let code: String = rest.by_ref().take(2).collect();
                out.push(char::from(u8::from_str_radix(&code, 16).unwrap()));
            } else {
                out.push(char);
            }
        }
        out
    }

    #[test]
    fn the_console_reads_the_query_back() {
        let from: Timestamp = "2026-11-24T03:25:09Z".parse().unwrap();
        let until: Timestamp = "2026-11-24T03:50:00Z".parse().unwrap();
        let query = "fields @timestamp, @message\n| filter @message like /(?i)(a~b|'c'*$%)/";
        let link = insights(
            "eu-west-1",
            &["/ecs/a".to_owned(), "/ecs/b".to_owned()],
            query,
            from,
            until,
        );
        assert!(link.starts_with(
            "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:logs-insights$3FqueryDetail$3D$257E$2528end$257E$25272026-11-24T03*3a50*3a00.000Z$257Estart$257E$2527"
        ), "{link}");
        assert_eq!(
            decode(&link),
            format!(
                "~(end~'2026-11-24T03:50:00.000Z~start~'2026-11-24T03:25:09.000Z~timeType~'ABSOLUTE~tz~'UTC~editorString~'{query}~source~(~'/ecs/a~'/ecs/b))"
            )
        );
        // Nothing in it ends a link in mail or in Slack.
        assert!(
            !link.contains([' ', '<', '>', '|', '(', ')', '\'', '"', '~']),
            "{link}"
        );
    }

    #[test]
    fn partitions_have_their_own_console() {
        assert_eq!(
            console("cn-north-1"),
            "https://cn-north-1.console.amazonaws.cn"
        );
        assert_eq!(
            console("us-gov-west-1"),
            "https://us-gov-west-1.console.amazonaws-us-gov.com"
        );
    }
}
