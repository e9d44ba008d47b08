//! The output of `php artisan schedule:list` → job tables, and what has drifted from it.
//!
//! The JSON of `--json` (current Laravel) is read, the list of Laravel 9 and later, and the
//! bordered table of Laravel 8. A list tells neither dates, `between`, `when` or `skip`, nor
//! runtimes, nor `onOneServer`.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use regex::Regex;
use serde::Deserialize;

use super::{Table, duration};
use crate::config::Scheduler;
use crate::cron::Cron;
use crate::job::Job;
use crate::line::clean;
use crate::line::job_name;

/// The name that a closure without a name has in the scheduler's output.
const CLOSURE: &str = "Callback";

/// One entry of a schedule list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// As the scheduler's output names it, where the list tells.
    pub name: String,
    /// Five fields.
    pub cron: Cron,
    /// Seconds between repeats within a minute.
    pub every: Option<i64>,
    /// The zone, where the list tells it.
    pub timezone: Option<String>,
    /// The environments in which it runs; all, if empty.
    pub environments: Vec<String>,
    /// What the application says about it.
    pub description: Option<String>,
    /// A closure without a name: its lines say `Callback`.
    pub is_closure: bool,
    /// The list was too narrow for its name.
    pub is_cut: bool,
}

/// A schedule list, and which kind of list it was.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// The entries in their order.
    pub jobs: Vec<Listed>,
    /// It told zones and environments.
    pub is_json: bool,
}

/// A file that is no schedule list. A retry does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAList {
    /// JSON of another shape.
    #[error(
        "this is JSON, but not what `php artisan schedule:list --json` prints (an array of objects \
         with `expression` and `command`): {0}"
    )]
    OtherJson(String),
    /// Text without an entry.
    #[error(
        "no entry of a schedule list was found; expected what `php artisan schedule:list --json` \
         prints, or its plain list; the file begins with `{0}`"
    )]
    NoEntry(String),
    /// Nothing at all.
    #[error("the file is empty; expected what `php artisan schedule:list --json` prints")]
    Empty,
    /// An entry whose times are none.
    #[error("entry {number} (`{name}`): {why}")]
    Cron {
        /// Its place in the list, from 1.
        number: usize,
        /// Its name.
        name: String,
        /// What is wrong with its expression.
        why: String,
    },
}

#[derive(Deserialize)]
struct Entry {
    expression: String,
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    timezone: Option<String>,
    #[serde(default)]
    repeat_seconds: Option<i64>,
    #[serde(default)]
    environments: Vec<String>,
}

/// Reads a list of any of the three kinds.
///
/// # Errors
/// It is none of them, or an entry's expression is no cron expression.
pub fn read(text: &str) -> Result<List, NotAList> {
    let trimmed = text.trim_start_matches('\u{feff}').trim();
    if trimmed.is_empty() {
        return Err(NotAList::Empty);
    }
    let (entries, is_json) = if trimmed.starts_with(['[', '{']) {
        let entries: Vec<Entry> = serde_json::from_str(trimmed)
            .map_err(|error| NotAList::OtherJson(error.to_string()))?;
        (entries, true)
    } else {
        let lines: Vec<String> = clean::lines(trimmed)
            .map(|line| line.into_owned())
            .collect();
        (plain(&lines)?, false)
    };
    let jobs = (entries.into_iter().enumerate())
        .map(|(index, entry)| listed(index + 1, entry))
        .collect::<Result<_, _>>()?;
    Ok(List { jobs, is_json })
}

fn listed(number: usize, entry: Entry) -> Result<Listed, NotAList> {
    let command = entry.command.unwrap_or_default();
    let command = command.trim();
    let description = entry.description.filter(|text| !text.trim().is_empty());
    // Laravel 8 lists a closure by its description alone, which is its name then.
    let shown = match (command, &description) {
        ("", Some(description)) => description.as_str(),
        ("", None) => "Closure",
        _ => command,
    };
    let is_closure = shown.starts_with("Closure at: ") || shown == "Closure" || shown == CLOSURE;
    let is_cut = shown.ends_with('…');
    let name = job_name(shown.trim_end_matches('…'));
    // Columns of the plain list are aligned by spaces.
    let expression = (entry.expression.split_whitespace())
        .collect::<Vec<_>>()
        .join(" ");
    let cron = Cron::parse(&expression).map_err(|why| NotAList::Cron {
        number,
        name: name.clone(),
        why,
    })?;
    Ok(Listed {
        cron,
        every: entry.repeat_seconds.filter(|every| *every > 0),
        timezone: entry.timezone.filter(|zone| !zone.is_empty()),
        environments: entry.environments,
        description: description.filter(|text| *text != name),
        is_closure,
        is_cut,
        name,
    })
}

/// Five fields, a pace within the minute, the command, dots, and when it is due next.
static LINE: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant; the tests use it")]
    Regex::new(
        r"^\s*(?<expression>[0-9*/,A-Za-z?#-]+(?:\s+[0-9*/,A-Za-z?#-]+){4})\s+(?:(?<every>[0-9]+)s\s+)?(?<command>\S.*?)\s*\.*\s*(?:Has Mutex\s*\S\s*)?Next Due: ",
    )
    .expect("a valid pattern")
});

fn plain(lines: &[String]) -> Result<Vec<Entry>, NotAList> {
    if lines
        .iter()
        .any(|line| line.contains("No scheduled tasks have been defined"))
    {
        return Ok(Vec::new());
    }
    let entries = if let Some(border) = lines.iter().find(|line| is_border(line)) {
        bordered(border, lines)
    } else {
        lines.iter().filter_map(|line| entry(line)).collect()
    };
    if entries.is_empty() {
        let first = lines
            .iter()
            .map(|line| line.trim())
            .find(|line| !line.is_empty());
        let first = first.unwrap_or_default().chars().take(60).collect();
        return Err(NotAList::NoEntry(first));
    }
    Ok(entries)
}

fn entry(line: &str) -> Option<Entry> {
    let found = LINE.captures(line)?;
    Some(Entry {
        expression: found["expression"].to_owned(),
        command: Some(found["command"].to_owned()),
        description: None,
        timezone: None,
        repeat_seconds: found
            .name("every")
            .and_then(|every| every.as_str().parse().ok()),
        environments: Vec::new(),
    })
}

fn is_border(line: &str) -> bool {
    let line = line.trim();
    line.len() > 2 && line.starts_with('+') && line.chars().all(|c| c == '+' || c == '-')
}

/// The table of Laravel 8: commands may hold bars, so columns are told by the border.
fn bordered(border: &str, lines: &[String]) -> Vec<Entry> {
    let bars: Vec<usize> = (border.chars().enumerate())
        .filter(|(_, c)| *c == '+')
        .map(|(column, _)| column)
        .collect();
    let cells = |line: &str| -> Vec<String> {
        let chars: Vec<char> = line.chars().collect();
        bars.windows(2)
            .map(|ends| {
                let cell = chars.get(ends[0] + 1..ends[1].min(chars.len()));
                cell.unwrap_or_default()
                    .iter()
                    .collect::<String>()
                    .trim()
                    .to_owned()
            })
            .collect()
    };
    let mut rows = (lines.iter()).filter(|line| line.trim_start().starts_with('|'));
    let header = rows.next().map(|line| cells(line)).unwrap_or_default();
    let column = |name: &str| header.iter().position(|title| title == name);
    let (Some(command), Some(interval)) = (column("Command"), column("Interval")) else {
        return Vec::new();
    };
    let description = column("Description");
    rows.map(|line| {
        let cells = cells(line);
        let cell = |column: usize| cells.get(column).cloned().unwrap_or_default();
        Entry {
            expression: cell(interval),
            command: Some(cell(command)),
            description: description.map(cell),
            timezone: None,
            repeat_seconds: None,
            environments: Vec::new(),
        }
    })
    .collect()
}

/// Entries of one name, which are one job with several times.
struct Group<'a> {
    first: &'a Listed,
    all: Vec<&'a Listed>,
}

impl Group<'_> {
    fn expressions(&self) -> Vec<String> {
        let mut expressions: Vec<String> = Vec::new();
        for listed in &self.all {
            let expression = listed.cron.expression();
            if !expressions.iter().any(|known| known == expression) {
                expressions.push(expression.to_owned());
            }
        }
        expressions
    }

    /// What its entries disagree on, and one table cannot say.
    fn disagreement(&self) -> Option<&'static str> {
        let differs = |same: fn(&Listed, &Listed) -> bool| {
            self.all.iter().any(|listed| !same(self.first, listed))
        };
        if differs(|a, b| a.timezone == b.timezone) {
            Some("zones")
        } else if differs(|a, b| a.every == b.every) {
            Some("repeats within a minute")
        } else if differs(|a, b| a.environments == b.environments) {
            Some("environments")
        } else {
            None
        }
    }
}

fn groups(list: &List) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for listed in &list.jobs {
        match groups
            .iter_mut()
            .find(|group| group.first.name == listed.name)
        {
            Some(group) => group.all.push(listed),
            None => groups.push(Group {
                first: listed,
                all: vec![listed],
            }),
        }
    }
    groups
}

/// The tables for a list, ready to paste below a scheduler. Zones are left out where they are
/// the scheduler's own (`zone`; UTC where none is given).
pub fn tables(list: &List, zone: Option<&TimeZone>) -> String {
    let zone = (zone.and_then(TimeZone::iana_name))
        .unwrap_or("UTC")
        .to_owned();
    let groups = groups(list);
    if groups.is_empty() {
        return "# The list is empty: the application has no scheduled tasks.\n".to_owned();
    }
    let mut text = format!(
        "# {} of `php artisan schedule:list`. What a list does not tell, and a job may need:\n\
         # active = [{{ from = \"2025-12-01\", until = \"2025-12-14\" }}]  for dates, between(), weekdays of\n\
         #   a when() or skip(); a job that is outside its dates now is not in the list at all\n\
         # max_runtime = \"10m\"     how long a run may take\n\
         # on_one_server = false   if it is meant to run on each replica\n",
        match groups.len() {
            1 => "1 job".to_owned(),
            n => format!("{n} jobs"),
        }
    );
    if !list.is_json {
        text.push_str("# The plain list tells no time zones and no environments; `--json` does.\n");
    }
    let closures = groups.iter().filter(|group| group.first.is_closure).count();
    for group in &groups {
        text.push('\n');
        text.push_str(&table(group, &zone, closures).print());
    }
    text
}

fn table(group: &Group<'_>, zone: &str, closures: usize) -> Table {
    let listed = group.first;
    let mut table = Table::default();
    if let Some(description) = &listed.description {
        table.comment(description.clone());
    }
    if let Some(what) = group.disagreement() {
        table.comment(format!(
            "It is listed {} times, with different {what}; its lines do not tell which is which. \
             Those of the first are taken.",
            group.all.len()
        ));
    }
    if listed.is_cut {
        table.comment("The list cut its name; complete it.");
    }
    table.text("name", &listed.name);
    table.texts("cron", &group.expressions());
    if let Some(every) = listed.every {
        table.text("every", &duration(jiff::SignedDuration::from_secs(every)));
    }
    if let Some(own) = listed.timezone.as_deref().filter(|own| *own != zone) {
        table.text("timezone", own);
    }
    if !listed.environments.is_empty() {
        let names: Vec<String> = listed.environments.clone();
        match names.as_slice() {
            [one] => table
                .keys
                .push(("environments", format!("[{}]", super::quoted(one)))),
            _ => table.texts("environments", &names),
        }
        table.comment(
            "`environments` needs the scheduler's own `environment`, such as \"production\".",
        );
    }
    if listed.is_closure {
        table.comment(format!(
            "A closure without a name: its lines say `{CLOSURE}`. ->name('…') would tell it apart."
        ));
        table.text("match", CLOSURE);
        table.commented_out = closures > 1;
        if closures > 1 {
            table.comment(format!(
                "{closures} closures share that name, so none can be watched."
            ));
        }
    }
    table.commented_out |= listed.is_cut;
    table
}

/// One difference between the configuration and a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The job.
    pub job: String,
    /// What differs, as a sentence's end: `is not in the configuration`.
    pub what: String,
}

/// Compares a scheduler's jobs with a list. A job that is outside its `active` windows at `now`
/// need not be listed.
pub fn drift(scheduler: &Scheduler, list: &List, now: Timestamp) -> Vec<Drift> {
    let mut groups = groups(list);
    groups.sort_by_key(|group| group.first.name.clone());
    let mut drift = Vec::new();
    let mut add = |job: &str, what: String| {
        drift.push(Drift {
            job: job.to_owned(),
            what,
        });
    };
    for job in &scheduler.jobs {
        match entries_of(job, &groups) {
            Some(group) => differences(job, &group, list.is_json)
                .into_iter()
                .for_each(|what| add(&job.name, what)),
            None if may_be_unlisted(job, now) => {}
            None => add(
                &job.name,
                "is in the configuration, not in the list (a job with dates of its own is not \
                 listed outside them; `active` tells of them)"
                    .to_owned(),
            ),
        }
    }
    for group in &groups {
        let known = (scheduler.jobs.iter()).any(|job| is_of(job, group.first));
        if known || group.first.is_closure {
            continue;
        }
        let expressions = group.expressions().join(", ");
        add(
            &group.first.name,
            format!("is in the list ({expressions}), not in the configuration"),
        );
    }
    let closures: Vec<&Listed> = (list.jobs.iter())
        .filter(|listed| listed.is_closure)
        .collect();
    let is_known = |closure: &&Listed| (scheduler.jobs.iter()).any(|job| is_of(job, closure));
    match closures.as_slice() {
        [] => {}
        some if some.iter().any(is_known) => {}
        [one] => add(
            &one.name,
            format!(
                "is in the list ({}), not in the configuration; its lines say {CLOSURE} \
                 (->name('…') gives it a name of its own)",
                one.cron.expression()
            ),
        ),
        several => add(
            CLOSURE,
            format!(
                "{} closures without a name are in the list, not in the configuration, and cannot be \
                 told apart in the log: give each ->name('…')",
                several.len()
            ),
        ),
    }
    drift
}

/// Whether an entry is about a job: by its name, or by the lines that it will print.
fn is_of(job: &Job, listed: &Listed) -> bool {
    let printed = if listed.is_closure {
        CLOSURE
    } else {
        &listed.name
    };
    job.name == listed.name || job.owns(printed, printed)
}

/// All entries of a job, as one.
fn entries_of<'a>(job: &Job, groups: &[Group<'a>]) -> Option<Group<'a>> {
    let of_it = |by: &dyn Fn(&Listed) -> bool| -> Vec<&'a Listed> {
        (groups.iter().filter(|group| by(group.first)))
            .flat_map(|group| group.all.iter().copied())
            .collect()
    };
    let mut all = of_it(&|listed| listed.name == job.name);
    if all.is_empty() {
        all = of_it(&|listed| is_of(job, listed));
    }
    let first = all.first().copied()?;
    Some(Group { first, all })
}

/// Whether its windows or environments explain that it is not listed now.
fn may_be_unlisted(job: &Job, now: Timestamp) -> bool {
    let today = job.timezone.to_datetime(now).date();
    let dated = |from: Option<_>, until: Option<_>| {
        from.is_none_or(|from| from <= today) && until.is_none_or(|until| today <= until)
    };
    let outside = !job.active.is_empty()
        && !(job.active.iter()).any(|window| dated(window.from, window.until));
    outside || job.elsewhere
}

fn differences(job: &Job, group: &Group<'_>, is_json: bool) -> Vec<String> {
    let listed = group.first;
    let mut found = Vec::new();
    let mut compare = |what: &str, config: String, list: String| {
        if config != list {
            found.push(format!(
                "{what}: the configuration says {config}, the list {list}"
            ));
        }
    };
    let sorted = |mut expressions: Vec<String>| {
        expressions.sort();
        expressions.join(", ")
    };
    let one_line = |cron: &Cron| {
        (cron.expression().split_whitespace())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let is_listed = |cron: &Cron| group.all.iter().any(|listed| listed.cron.is_same(cron));
    let is_configured = |listed: &&Listed| job.cron.iter().any(|cron| cron.is_same(&listed.cron));
    if !(job.cron.iter().all(is_listed) && group.all.iter().all(is_configured)) {
        compare(
            "cron",
            sorted(job.cron.iter().map(one_line).collect()),
            sorted(group.expressions()),
        );
    }
    let every = |seconds: Option<i64>| seconds.map_or("none".to_owned(), |n| format!("{n}s"));
    compare(
        "every",
        every(job.every.map(|every| every.as_secs())),
        every(listed.every),
    );
    if is_json {
        let zone = job.timezone.iana_name().unwrap_or("UTC").to_owned();
        if let Some(listed) = &listed.timezone {
            compare("timezone", zone, listed.clone());
        }
        let names = |names: &[String]| match names {
            [] => "all".to_owned(),
            names => sorted(names.to_vec()),
        };
        compare(
            "environments",
            names(&job.environments),
            names(&listed.environments),
        );
    }
    found
}
