//! A story → one page: everything is laid out here in numbers and words, `page.j2` only writes
//! it down. The page holds no script and loads nothing.
//!
//! Its size is bounded: lines are drawn in columns, marks that would lie upon each other are
//! one, and lists end with how many more there are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span as Step, Timestamp, ZonedDateTime};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;

use super::story::{
    Axis, COLUMNS, Chapter, Episode, Fate, Incident, Lane, Restart, Span, Standing, Story, Told,
};
use crate::condition::Severity;
use crate::plan::{Occasion, Verdict};

/// The part of a track that a mark takes; those that would lie closer together are one.
const MARK: f64 = 0.0135;

/// The same as columns.
const MARKS: usize = 74;

/// Rows of a list of incidents, episodes or restarts.
const MOST_ROWS: usize = 100;

/// Bars of incidents in one track.
const MOST_BARS: usize = 300;

/// Messages of one scheduler that are shown in full.
const MOST_MESSAGES: usize = 200;

/// Lanes of one scheduler.
const MOST_LANES: usize = 60;

/// Schedulers that are drawn; of the others, the overview tells.
const MOST_CHAPTERS: usize = 40;

/// Rows of bars that do not overlap; the last takes what finds no room.
const MOST_BAR_ROWS: usize = 5;

/// Lines of a mark's hint.
const MOST_HINTS: usize = 8;

/// The part of a track that a letter takes, on a small screen.
const LETTER: f64 = 0.0085;

/// The whole page.
#[derive(Serialize)]
struct Page {
    css: &'static str,
    passes: String,
    every: String,
    more_chapters: usize,
    overview: Vec<Overview>,
    chapters: Vec<ChapterView>,
}

/// A scheduler's row in the overview.
#[derive(Serialize)]
pub(super) struct Overview {
    name: String,
    /// Its place on the page, where it has one.
    href: Option<String>,
    incidents: usize,
    open: usize,
    down_for: String,
    told_after: String,
    /// The longest, where it is another one.
    told_at_most: Option<String>,
    messages: usize,
    withheld: usize,
    restarts: usize,
    restarts_withheld: usize,
}

#[derive(Serialize)]
struct ChapterView {
    id: String,
    name: String,
    zone: String,
    from: String,
    until: String,
    overview: Overview,
    ticks: Vec<Tick>,
    shades: Vec<Block>,
    beats: String,
    beats_note: String,
    gaps: Vec<Block>,
    errors: Vec<Block>,
    errors_note: String,
    track: Track,
    restarts_drawn: Vec<Mark>,
    deployments: Vec<Mark>,
    lanes: Vec<LaneView>,
    more_lanes: usize,
    summary: Summary,
    messages: Vec<MessageView>,
    more_messages: usize,
}

/// What is told of a scheduler in tables.
#[derive(Serialize)]
pub(super) struct Summary {
    pub incidents: List<IncidentRow>,
    pub reasons: Vec<(&'static str, usize)>,
    pub withheld: List<WithheldRow>,
    pub restarts: List<RestartRow>,
    pub jobs: Vec<JobRow>,
}

/// The beginning of a list, and how much more there is.
#[derive(Serialize)]
pub(super) struct List<T> {
    rows: Vec<T>,
    more: usize,
}

impl<T> List<T> {
    fn new(mut rows: Vec<T>) -> Self {
        let more = rows.len().saturating_sub(MOST_ROWS);
        rows.truncate(MOST_ROWS);
        Self { rows, more }
    }
}

#[derive(Serialize)]
pub(super) struct IncidentRow {
    condition: String,
    severity: &'static str,
    about: Option<String>,
    cause: String,
    start: String,
    end: Option<String>,
    lasted: String,
    told_after: String,
    href: Option<String>,
}

#[derive(Serialize)]
pub(super) struct WithheldRow {
    condition: &'static str,
    about: Option<String>,
    why: String,
    episodes: usize,
    passes: u64,
    first: String,
    last: String,
}

#[derive(Serialize)]
pub(super) struct RestartRow {
    at: String,
    action: &'static str,
    attempt: u32,
    made: bool,
    gates: String,
}

#[derive(Serialize)]
pub(super) struct JobRow {
    job: String,
    schedule: String,
    counts: Vec<(&'static str, u64)>,
}

/// A place on the axis with words.
#[derive(Serialize)]
struct Tick {
    x: String,
    label: String,
}

/// Something with a beginning and an end.
#[derive(Serialize)]
struct Block {
    x: String,
    width: String,
    y: f64,
    height: f64,
    class: &'static str,
    title: String,
}

/// An incident in its row.
#[derive(Serialize)]
struct Bar {
    x: String,
    width: String,
    y: usize,
    class: &'static str,
    title: String,
    label: Option<String>,
    label_x: String,
    anchor: &'static str,
    href: Option<String>,
}

/// A moment.
#[derive(Serialize)]
struct Mark {
    x: String,
    y: usize,
    class: &'static str,
    glyph: String,
    title: String,
    href: Option<String>,
}

/// Incidents and the messages about them.
#[derive(Serialize)]
struct Track {
    bars: Vec<Bar>,
    marks: Vec<Mark>,
    more_bars: usize,
    height: usize,
}

#[derive(Serialize)]
struct LaneView {
    job: String,
    schedule: String,
    note: String,
    runs: Vec<Block>,
    track: Track,
}

#[derive(Serialize)]
struct MessageView {
    id: String,
    at: String,
    reason: &'static str,
    class: &'static str,
    subject: String,
    text: String,
}

/// The page about a story.
///
/// # Errors
/// The template is broken; a test renders it.
pub(super) fn render(story: &Story) -> Result<String, minijinja::Error> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    env.set_syntax(syntax.build().unwrap_or_default());
    // By this name everything that is written is escaped for HTML.
    env.add_template("page.html", include_str!("page.j2"))?;
    let page = env.get_template("page.html")?;
    page.render(Value::from(Serde(&view(story))))
}

fn view(story: &Story) -> Page {
    let shown = story.chapters.len().min(MOST_CHAPTERS);
    let overview = (story.chapters.iter().enumerate())
        .map(|(index, chapter)| {
            let href = (index < shown).then(|| format!("#s{index}"));
            overview(chapter, &story.axis, href)
        })
        .collect();
    let chapters = (story.chapters.iter().enumerate().take(shown))
        .map(|(index, chapter)| Draft::new(chapter, story.axis, index).view())
        .collect();
    Page {
        css: include_str!("page.css"),
        passes: count(story.passes, "pass"),
        every: lasted(story.every),
        more_chapters: story.chapters.len() - shown,
        overview,
        chapters,
    }
}

fn overview(chapter: &Chapter, axis: &Axis, href: Option<String>) -> Overview {
    let mut delays: Vec<SignedDuration> = chapter.incidents.iter().map(told_after).collect();
    delays.sort_unstable();
    let median = delays.get(delays.len() / 2).copied();
    let longest = delays
        .last()
        .copied()
        .filter(|longest| Some(*longest) != median);
    let made = chapter
        .restarts
        .iter()
        .filter(|r| r.gates.is_empty())
        .count();
    Overview {
        name: chapter.scheduler.clone(),
        href,
        incidents: chapter.incidents.len(),
        open: (chapter.incidents.iter())
            .filter(|i| i.until.is_none())
            .count(),
        down_for: match down_for(&chapter.incidents, axis) {
            SignedDuration::ZERO => "–".to_owned(),
            down => lasted(down),
        },
        told_after: median.map_or_else(|| "–".to_owned(), lasted),
        told_at_most: longest.map(lasted),
        messages: chapter.messages.len(),
        withheld: chapter.episodes.len(),
        restarts: made,
        restarts_withheld: chapter.restarts.len() - made,
    }
}

/// From the beginning of the trouble to the first message.
fn told_after(incident: &Incident) -> SignedDuration {
    incident.told_at.duration_since(incident.since)
}

/// How long the loop itself was in trouble, overlaps counted once.
fn down_for(incidents: &[Incident], axis: &Axis) -> SignedDuration {
    let mut spans: Vec<(Timestamp, Timestamp)> = (incidents.iter())
        .filter(|incident| incident.slot == crate::condition::Slot::Loop)
        .map(|incident| (incident.since, incident.until.unwrap_or(axis.until)))
        .collect();
    spans.sort_unstable();
    let mut reached = Timestamp::MIN;
    let mut sum = SignedDuration::ZERO;
    for (from, until) in spans {
        sum += until
            .duration_since(from.max(reached))
            .max(SignedDuration::ZERO);
        reached = reached.max(until);
    }
    sum
}

/// A chapter on its way to the page.
struct Draft<'s> {
    chapter: &'s Chapter,
    axis: Axis,
    index: usize,
    /// The zone's offset changes within the span, so that times must name it.
    offsets: bool,
    /// The messages that are shown in full.
    shown: Vec<bool>,
}

impl<'s> Draft<'s> {
    fn new(chapter: &'s Chapter, axis: Axis, index: usize) -> Self {
        let change = chapter.zone.following(axis.from).next();
        let offsets = change.is_some_and(|change| change.timestamp() < axis.until);
        Self {
            chapter,
            axis,
            index,
            offsets,
            shown: shown(&chapter.messages),
        }
    }

    fn view(&self) -> ChapterView {
        let chapter = self.chapter;
        let zone = match chapter.zone.iana_name() {
            Some(name) if !self.offsets => {
                let offset = self.zoned(self.axis.from).strftime("%:z").to_string();
                format!("{name} (UTC{offset})")
            }
            Some(name) => name.to_owned(),
            None => format!("UTC{}", self.zoned(self.axis.from).strftime("%:z")),
        };
        let of_loop = |job: &Option<String>| {
            !(job.as_ref()).is_some_and(|job| chapter.lanes.iter().any(|lane| lane.job == *job))
        };
        let (lanes, more_lanes) = self.lanes();
        let beats: u64 = chapter.beats.0.iter().map(|count| u64::from(*count)).sum();
        let errors: u64 = chapter.errors.0.iter().map(|count| u64::from(*count)).sum();
        let left_out = self.shown.iter().filter(|shown| !**shown).count();
        ChapterView {
            id: format!("s{}", self.index),
            name: chapter.scheduler.clone(),
            zone,
            from: self.time(self.axis.from),
            until: self.time(self.axis.until),
            overview: overview(chapter, &self.axis, None),
            ticks: ticks(&self.axis, &chapter.zone),
            shades: self.shades(),
            beats: area(&chapter.beats.0),
            beats_note: format!(
                "{}, {} of more than {}",
                count(beats, "heartbeat"),
                count(chapter.gaps.len() as u64, "gap"),
                lasted(chapter.gap_from)
            ),
            gaps: self.spans(&chapter.gaps, "gap"),
            errors: self.bars_of_errors(),
            errors_note: count(errors, "error"),
            track: self.track(of_loop),
            restarts_drawn: self.restarts(),
            deployments: self.deployments(),
            lanes,
            more_lanes,
            summary: self.summary(),
            messages: (chapter.messages.iter().enumerate())
                .filter(|(index, _)| self.shown[*index])
                .map(|(index, told)| MessageView {
                    id: self.anchor(index),
                    at: self.time(told.at),
                    reason: told.occasion.id(),
                    class: class_of(told.occasion),
                    subject: told.subject.clone(),
                    text: told.text.clone(),
                })
                .collect(),
            more_messages: left_out,
        }
    }

    fn zoned(&self, at: Timestamp) -> ZonedDateTime {
        at.to_zoned_datetime(self.chapter.zone.clone())
    }

    /// A moment in the scheduler's zone, to the minute or, if need be, to the second.
    fn time(&self, at: Timestamp) -> String {
        let at = self.zoned(at);
        let seconds = if at.second() == 0 { "" } else { ":%S" };
        let offset = if self.offsets { " %:z" } else { "" };
        at.strftime(&format!("%Y-%m-%d %H:%M{seconds}{offset}"))
            .to_string()
    }

    fn between(&self, from: Timestamp, until: Timestamp) -> String {
        format!("{} – {}", self.time(from), self.time(until))
    }

    fn anchor(&self, message: usize) -> String {
        format!("s{}m{}", self.index, message + 1)
    }

    fn href(&self, message: usize) -> Option<String> {
        self.shown[message].then(|| format!("#{}", self.anchor(message)))
    }

    fn block(
        &self,
        (from, until): (f64, f64),
        (y, height): (f64, f64),
        class: &'static str,
        title: String,
    ) -> Block {
        Block {
            x: percent(from),
            width: percent((until - from).max(0.0)),
            y,
            height,
            class,
            title,
        }
    }

    /// Neighbouring columns as one block.
    fn columns(&self, from: usize, until: usize) -> ((f64, f64), String) {
        let place = |column: usize| column as f64 / COLUMNS as f64;
        let when = self.between(
            self.axis.begin(from, COLUMNS),
            self.axis.begin(until, COLUMNS),
        );
        ((place(from), place(until)), when)
    }

    /// Spans, those that fall into the same columns as one.
    fn spans(&self, spans: &[Span], class: &'static str) -> Vec<Block> {
        let mut sorted: Vec<&Span> = spans.iter().collect();
        sorted.sort_by_key(|span| span.from);
        let column = |at| self.axis.column(at, COLUMNS);
        let mut merged: Vec<(Timestamp, Timestamp, &Span, usize)> = Vec::new();
        for span in sorted {
            match merged.last_mut() {
                Some((_, until, _, more)) if column(*until) >= column(span.from) => {
                    *until = (*until).max(span.until);
                    *more += 1;
                }
                _ => merged.push((span.from, span.until, span, 0)),
            }
        }
        (merged.into_iter())
            .map(|(from, until, span, more)| {
                let mut title = format!(
                    "{} ({}): {}",
                    self.between(from, until),
                    lasted(until.duration_since(from)),
                    span.label
                );
                if more > 0 {
                    let _ = write!(title, "; and {more} more");
                }
                let place = (self.axis.place(from), self.axis.place(until));
                self.block(place, (0.0, 100.0), class, title)
            })
            .collect()
    }

    /// What lies behind all tracks: silences, and times in which nothing was judged.
    fn shades(&self) -> Vec<Block> {
        let standing = |verdict: Verdict| -> Vec<Span> {
            let own = |standing: &&Standing| standing.verdict == verdict;
            (self.chapter.standing.iter().filter(own))
                .map(|standing| Span {
                    label: format!("{}: {}", verdict.id(), standing.span.label),
                    ..standing.span.clone()
                })
                .collect()
        };
        let mut shades = self.spans(&self.chapter.silences, "silence");
        shades.extend(self.spans(&standing(Verdict::Suspended), "suspended"));
        shades.extend(self.spans(&standing(Verdict::Unknown), "unknown"));
        shades
    }

    fn bars_of_errors(&self) -> Vec<Block> {
        let errors = &self.chapter.errors.0;
        let most = f64::from(errors.iter().copied().max().unwrap_or(0).max(5));
        (errors.iter().enumerate().filter(|(_, n)| **n > 0))
            .map(|(column, number)| {
                let (place, when) = self.columns(column, column + 1);
                let height = (f64::from(*number) / most * 100.0).max(12.0).round();
                let title = format!("{when}: {}", count(u64::from(*number), "error"));
                self.block(place, (100.0 - height, height), "error", title)
            })
            .collect()
    }

    /// The incidents of the loop or of a job, and the messages about them.
    fn track(&self, own: impl Fn(&Option<String>) -> bool) -> Track {
        let mut rows = [f64::NEG_INFINITY; MOST_BAR_ROWS];
        let mut incidents: Vec<&Incident> = self
            .chapter
            .incidents
            .iter()
            .filter(|i| own(&i.job))
            .collect();
        incidents.sort_by_key(|incident| incident.since);
        let more_bars = incidents.len().saturating_sub(MOST_BARS);
        incidents.truncate(MOST_BARS);
        let mut bars = Vec::new();
        for incident in incidents {
            let until = incident.until.unwrap_or(self.axis.until);
            let (from, to) = (self.axis.place(incident.since), self.axis.place(until));
            let span = lasted(until.duration_since(incident.since));
            let about = (incident.subject.as_ref())
                .filter(|_| incident.job.is_none())
                .map(|subject| format!(" {}", brief(subject)));
            let label = format!("{}{} · {span}", names(incident), about.unwrap_or_default());
            let wide = label.chars().count() as f64 * LETTER;
            // What would leave the track on the right is written to the left of its end.
            let flipped = from + wide > 1.0;
            let (begin, end) = match flipped {
                true => (from.min(to - wide), to),
                false => (from, to.max(from + wide)),
            };
            let free = rows.iter().position(|reached| *reached <= begin);
            let row = free.unwrap_or(MOST_BAR_ROWS - 1);
            rows[row] = rows[row].max(end + 0.005);
            let ongoing = if incident.until.is_none() {
                " (goes on)"
            } else {
                ""
            };
            let subject = (incident.subject.as_deref())
                .filter(|_| incident.job.is_none())
                .map(|subject| format!(" {subject}"));
            bars.push(Bar {
                x: percent(from),
                width: percent(to - from),
                y: row * 24,
                class: match incident.severity {
                    Severity::Critical => "critical",
                    _ => "warning",
                },
                title: format!(
                    "{}{}: {}, {span}{ongoing}; told after {}; cause: {}",
                    names(incident),
                    subject.unwrap_or_default(),
                    self.between(incident.since, until),
                    lasted(told_after(incident)),
                    incident.cause,
                ),
                label: free.map(|_| label),
                label_x: percent(if flipped { to } else { from }),
                anchor: if flipped { "end" } else { "start" },
                href: self.first_message(incident),
            });
        }
        let used = rows.iter().filter(|reached| reached.is_finite()).count();
        let marks = self.marks(&own, used * 24);
        let good = marks.iter().any(|mark| mark.y > used * 24 + 10);
        let height = used * 24 + if marks.is_empty() { 0 } else { 20 } + if good { 19 } else { 0 };
        Track {
            bars,
            marks,
            more_bars,
            height,
        }
    }

    fn first_message(&self, incident: &Incident) -> Option<String> {
        let first = (self.chapter.messages.iter()).position(|told| {
            told.at == incident.told_at
                && told.job == incident.job
                && incident.conditions.contains(&told.condition)
        });
        first.and_then(|index| self.href(index))
    }

    /// Messages by column: bad news in a row above good news.
    fn marks(&self, own: &impl Fn(&Option<String>) -> bool, top: usize) -> Vec<Mark> {
        let mut groups: [Vec<Vec<usize>>; 2] = Default::default();
        for (index, told) in self.chapter.messages.iter().enumerate() {
            if own(&told.job) {
                let good = matches!(told.occasion, Occasion::Resolved | Occasion::Remediated);
                let first = |group: &&mut Vec<usize>| {
                    let first = self.chapter.messages[group[0]].at;
                    self.axis.place(told.at) < self.axis.place(first) + MARK
                };
                match groups[usize::from(good)].last_mut().filter(first) {
                    Some(group) => group.push(index),
                    None => groups[usize::from(good)].push(vec![index]),
                }
            }
        }
        let [bad, good] = groups.map(Vec::into_iter);
        let groups = (bad.map(|group| (false, group))).chain(good.map(|group| (true, group)));
        groups
            .filter_map(|(good, messages)| {
                let told = |index: &usize| &self.chapter.messages[*index];
                // A reminder is never what a mark stands for if there is anything else.
                let main = (messages.iter()).min_by_key(|index| rank(told(index).occasion))?;
                let told_first = told(main);
                let several = (messages.iter())
                    .filter(|index| rank(told(index).occasion) == 0)
                    .count();
                let reminder = told_first.occasion == Occasion::Reminder;
                Some(Mark {
                    x: percent(self.axis.place(told(messages.first()?).at)),
                    y: top + if good { 29 } else { 10 },
                    class: class_of(told_first.occasion),
                    glyph: match several {
                        2.. if !reminder => several.to_string(),
                        _ => glyph(told_first.occasion).to_owned(),
                    },
                    title: hints(messages.iter().map(|index| {
                        let told = told(index);
                        format!(
                            "{} {}: {}",
                            self.time(told.at),
                            told.occasion.id(),
                            told.subject
                        )
                    })),
                    href: self.href(*main),
                })
            })
            .collect()
    }

    fn restarts(&self) -> Vec<Mark> {
        let mut columns: BTreeMap<(bool, usize), Vec<&Restart>> = BTreeMap::new();
        for restart in &self.chapter.restarts {
            let key = (
                restart.gates.is_empty(),
                self.axis.column(restart.at, MARKS),
            );
            columns.entry(key).or_default().push(restart);
        }
        (columns.into_iter())
            .filter_map(|((made, _), restarts)| {
                Some(Mark {
                    x: percent(self.axis.place(restarts.first()?.at)),
                    y: 10,
                    class: if made { "made" } else { "held" },
                    glyph: String::new(),
                    title: hints(restarts.iter().map(|restart| {
                        let what = if made { "restart" } else { "restart withheld" };
                        let gates = match made {
                            true => String::new(),
                            false => format!(" ({})", restart.gates.join(", ")),
                        };
                        format!(
                            "{} {what}: {}, attempt {}{gates}",
                            self.time(restart.at),
                            restart.action,
                            restart.attempt
                        )
                    })),
                    href: None,
                })
            })
            .collect()
    }

    fn deployments(&self) -> Vec<Mark> {
        let mut columns: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for deployment in &self.chapter.deployments {
            let column = self.axis.column(deployment.created_at, MARKS);
            columns.entry(column).or_default().push(deployment);
        }
        (columns.into_values())
            .filter_map(|deployments| {
                Some(Mark {
                    x: percent(self.axis.place(deployments.first()?.created_at)),
                    y: 10,
                    class: "deployment",
                    glyph: String::new(),
                    title: hints(deployments.iter().map(|deployment| {
                        let rollout = match deployment.rollout.as_str() {
                            "" => deployment.status.as_str(),
                            rollout => rollout,
                        };
                        format!(
                            "{} deployment {}: {rollout}",
                            self.time(deployment.created_at),
                            deployment.id,
                        )
                    })),
                    href: None,
                })
            })
            .collect()
    }

    /// The jobs' lanes; if there are too many, those with something wrong come first.
    fn lanes(&self) -> (Vec<LaneView>, usize) {
        let lanes = &self.chapter.lanes;
        let mut order: Vec<usize> = (0..lanes.len()).collect();
        if lanes.len() > MOST_LANES {
            let is_fine = |lane: &Lane| {
                lane.count(Fate::Failed) + lane.count(Fate::Missed) == 0
                    && !(self.chapter.incidents.iter())
                        .any(|incident| incident.job.as_ref() == Some(&lane.job))
            };
            order.sort_by_key(|index| is_fine(&lanes[*index]));
            order.truncate(MOST_LANES);
        }
        let more = lanes.len() - order.len();
        let views = (order.into_iter())
            .map(|index| self.lane(&lanes[index]))
            .collect();
        (views, more)
    }

    fn lane(&self, lane: &Lane) -> LaneView {
        let mut runs = Vec::new();
        for fate in Fate::ALL {
            let (class, y, height) = match fate {
                Fate::Unexpected => ("unexpected", 2.0, 7.0),
                Fate::Ran => ("ran", 11.0, 13.0),
                Fate::Failed => ("failed", 6.0, 23.0),
                Fate::Missed => ("missed", 26.0, 10.0),
                Fate::Lost => ("lost", 26.0, 10.0),
            };
            for (from, until, number) in lane.bins(fate).stretches() {
                let (place, when) = self.columns(from, until);
                let title = format!("{when}: {number} {}", word(fate));
                runs.push(self.block(place, (y, height), class, title));
            }
        }
        let counts: Vec<String> = (counts(lane).into_iter())
            .map(|(what, number)| format!("{} {what}", thousands(number)))
            .collect();
        LaneView {
            job: lane.job.clone(),
            schedule: lane.schedule.clone(),
            note: match counts.is_empty() {
                true => "nothing was due".to_owned(),
                false => counts.join(" · "),
            },
            runs,
            track: self.track(|job| job.as_ref() == Some(&lane.job)),
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let chapter = self.chapter;
        let incidents = (chapter.incidents.iter())
            .map(|incident| {
                let until = incident.until.unwrap_or(self.axis.until);
                IncidentRow {
                    condition: names(incident),
                    severity: incident.severity.id(),
                    about: incident.subject.clone(),
                    cause: incident.cause.clone(),
                    start: self.time(incident.since),
                    end: incident.until.map(|until| self.time(until)),
                    lasted: lasted(until.duration_since(incident.since)),
                    told_after: lasted(told_after(incident)),
                    href: self.first_message(incident),
                }
            })
            .collect();
        let number = |occasion: Occasion| {
            (chapter.messages.iter())
                .filter(|told| told.occasion == occasion)
                .count()
        };
        let restarts = (chapter.restarts.iter())
            .map(|restart| RestartRow {
                at: self.time(restart.at),
                action: restart.action,
                attempt: restart.attempt,
                made: restart.gates.is_empty(),
                gates: restart.gates.join(", "),
            })
            .collect();
        Summary {
            incidents: List::new(incidents),
            reasons: (Occasion::ALL.into_iter())
                .map(|occasion| (occasion.id(), number(occasion)))
                .filter(|(_, number)| *number > 0)
                .collect(),
            withheld: List::new(self.withheld()),
            restarts: List::new(restarts),
            jobs: (chapter.lanes.iter())
                .map(|lane| JobRow {
                    job: lane.job.clone(),
                    schedule: lane.schedule.clone(),
                    counts: counts(lane),
                })
                .collect(),
        }
    }

    /// Episodes of the same kind as one row.
    fn withheld(&self) -> Vec<WithheldRow> {
        let mut kinds: BTreeMap<_, Vec<&Episode>> = BTreeMap::new();
        for episode in &self.chapter.episodes {
            let key = (
                episode.condition,
                episode.subject.as_deref(),
                episode.why.as_str(),
            );
            kinds.entry(key).or_default().push(episode);
        }
        (kinds.into_iter())
            .filter_map(|((condition, subject, why), episodes)| {
                Some(WithheldRow {
                    condition: condition.id(),
                    about: subject.map(str::to_owned),
                    why: why.to_owned(),
                    episodes: episodes.len(),
                    passes: episodes.iter().map(|e| u64::from(e.passes)).sum(),
                    first: self.time(episodes.first()?.first),
                    last: self.time(episodes.last()?.last),
                })
            })
            .collect()
    }
}

/// Which messages are shown in full: reminders only as far as there is room for them.
fn shown(messages: &[Told]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..messages.len()).collect();
    order.sort_by_key(|index| rank(messages[*index].occasion));
    let mut shown = vec![false; messages.len()];
    for index in order.into_iter().take(MOST_MESSAGES) {
        shown[index] = true;
    }
    shown
}

fn rank(occasion: Occasion) -> u8 {
    u8::from(occasion == Occasion::Reminder)
}

fn class_of(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::Reminder => "reminder",
        Occasion::Resolved | Occasion::Remediated => "good",
        _ => "bad",
    }
}

fn glyph(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::Opened => "!",
        Occasion::Changed => "~",
        Occasion::Reminder => "",
        Occasion::Remediated => "↻",
        Occasion::RemediationFailed => "×",
        Occasion::LockedOut => "∅",
        Occasion::Flapping => "≈",
        Occasion::Resolved => "✓",
    }
}

/// A fate in words, for people.
fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Ran => "ran",
        Fate::Failed => "failed",
        Fate::Missed => "missed",
        Fate::Lost => "lost in an outage",
        Fate::Unexpected => "unexpected",
    }
}

fn counts(lane: &Lane) -> Vec<(&'static str, u64)> {
    (Fate::ALL.into_iter())
        .map(|fate| (word(fate), lane.count(fate)))
        .filter(|(_, number)| *number > 0)
        .collect()
}

/// The faces of an incident.
fn names(incident: &Incident) -> String {
    let names: Vec<&str> = incident.conditions.iter().map(|c| c.id()).collect();
    names.join(" → ")
}

/// A task's id is too long for a label.
fn brief(subject: &str) -> String {
    match subject.char_indices().nth(12) {
        Some((cut, _)) => format!("{}…", &subject[..cut]),
        None => subject.to_owned(),
    }
}

fn hints(lines: impl ExactSizeIterator<Item = String>) -> String {
    let more = lines.len().saturating_sub(MOST_HINTS);
    let mut lines: Vec<String> = lines.take(MOST_HINTS).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

fn percent(part: f64) -> String {
    let text = format!("{:.2}", part * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn count(number: u64, word: &str) -> String {
    let end = match (number, word.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {word}{end}", thousands(number))
}

fn thousands(number: u64) -> String {
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
fn lasted(span: SignedDuration) -> String {
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

/// The density of heartbeats as an area of 600 by 100. What nine of ten columns do not exceed
/// fills it.
fn area(bins: &[u32]) -> String {
    let mut sorted: Vec<u32> = bins.iter().copied().filter(|n| *n > 0).collect();
    sorted.sort_unstable();
    let Some(usual) = sorted.get(sorted.len() * 9 / 10) else {
        return String::new();
    };
    let level =
        |count: u32| (100.0 - (f64::from(count) / f64::from(*usual)).min(1.15) * 82.0).round();
    let mut path = "M0 100".to_owned();
    let mut before = None;
    for (column, count) in bins.iter().enumerate() {
        let level = if *count == 0 { 100.0 } else { level(*count) };
        if before != Some(level) {
            let _ = write!(path, "H{column}V{level}");
            before = Some(level);
        }
    }
    let _ = write!(path, "H{}V100Z", bins.len());
    path
}

/// Steps between ticks, each with the format of its labels.
const STEPS: [(i64, Unit, &str); 13] = [
    (1, Unit::Minutes, "%H:%M"),
    (5, Unit::Minutes, "%H:%M"),
    (15, Unit::Minutes, "%H:%M"),
    (60, Unit::Minutes, "%H:%M"),
    (180, Unit::Minutes, "%b %-d %H:%M"),
    (360, Unit::Minutes, "%b %-d %H:%M"),
    (1, Unit::Days, "%b %-d"),
    (2, Unit::Days, "%b %-d"),
    (7, Unit::Days, "%b %-d"),
    (1, Unit::Months, "%b %Y"),
    (3, Unit::Months, "%b %Y"),
    (12, Unit::Months, "%Y"),
    (120, Unit::Months, "%Y"),
];

#[derive(Clone, Copy)]
enum Unit {
    Minutes,
    Days,
    Months,
}

/// Round times of the wall clock, at most a dozen.
fn ticks(axis: &Axis, zone: &TimeZone) -> Vec<Tick> {
    for (step, unit, format) in STEPS {
        if let Some(times) = round_times(axis, zone, step, unit) {
            return (times.into_iter())
                .map(|at| Tick {
                    x: percent(axis.place(at)),
                    label: at
                        .to_zoned_datetime(zone.clone())
                        .strftime(format)
                        .to_string(),
                })
                .collect();
        }
    }
    Vec::new()
}

/// None if there are more than a dozen.
fn round_times(axis: &Axis, zone: &TimeZone, step: i64, unit: Unit) -> Option<Vec<Timestamp>> {
    let from = zone.to_datetime(axis.from);
    let day = from.date();
    let (begin, step) = match unit {
        Unit::Minutes => (day, Step::new().try_minutes(step).ok()?),
        Unit::Days if step == 7 => {
            let back = day.weekday().since(Weekday::Monday);
            (
                day.checked_sub(Step::new().days(back)).ok()?,
                Step::new().days(7),
            )
        }
        Unit::Days => (day.first_of_month(), Step::new().try_days(step).ok()?),
        Unit::Months => (day.first_of_year(), Step::new().try_months(step).ok()?),
    };
    let mut at = begin.to_datetime(jiff::civil::Time::midnight());
    let mut times = Vec::new();
    let length = axis.until.duration_since(axis.from);
    // So many steps cannot be a dozen in the span.
    if matches!(unit, Unit::Minutes) && length > SignedDuration::from_hours(24 * 7) {
        return None;
    }
    loop {
        let moment = zone.to_timestamp(at).ok()?;
        if moment > axis.until {
            return Some(times);
        }
        if moment >= axis.from {
            times.push(moment);
        }
        if times.len() > 12 {
            return None;
        }
        at = at.checked_add(step).ok()?;
    }
}

#[cfg(test)]
mod tests;
