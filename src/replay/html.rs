//! A story → one page: everything is laid out here in numbers and words, `page.j2` only writes
//! it down. The page holds no script and loads nothing.
//!
//! Its size is bounded: lines are drawn in columns, marks that would lie upon each other are
//! one, and lists end with how many more there are.

mod draft;
mod scale;
mod words;

use jiff::{SignedDuration, Timestamp};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;

use super::story::{Axis, Chapter, Incident, Story};
use crate::condition::Slot;
use draft::Draft;
use scale::Tick;
use words::{count, lasted};

/// Rows of a list of incidents, episodes or restarts.
const MOST_ROWS: usize = 100;

/// Schedulers that are drawn; of the others, the overview tells.
const MOST_CHAPTERS: usize = 40;

/// Lanes of the whole page, and at least of each scheduler.
const LANES: (usize, usize) = (120, 3);

/// Messages in full of the whole page, and at least of each scheduler.
const MESSAGES: (usize, usize) = (300, 10);

/// What each scheduler may take of the page.
#[derive(Clone, Copy)]
struct Share {
    lanes: usize,
    messages: usize,
}

impl Share {
    /// One of so many.
    fn of(chapters: usize) -> Self {
        let share = |(all, least): (usize, usize)| (all / chapters.max(1)).max(least);
        Self {
            lanes: share(LANES),
            messages: share(MESSAGES),
        }
    }
}

/// The whole page.
#[derive(Serialize)]
struct Page {
    css: &'static str,
    passes: String,
    every: String,
    more_chapters: usize,
    overview: Vec<Overview>,
    /// The language of the messages.
    language: &'static str,
    chapters: Vec<ChapterView>,
}

/// A scheduler's row in the overview.
#[derive(Serialize)]
struct Overview {
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
    left_out: usize,
    summary: Summary,
    messages: Vec<MessageView>,
    more_messages: usize,
}

/// What is told of a scheduler in tables.
#[derive(Serialize)]
struct Summary {
    incidents: List<IncidentRow>,
    reasons: Vec<(&'static str, usize)>,
    withheld: List<WithheldRow>,
    restarts: List<RestartRow>,
    /// What becomes of runs, in words.
    words: [&'static str; 5],
    jobs: Vec<JobRow>,
}

/// The beginning of a list, and how much more there is.
#[derive(Serialize)]
struct List<T> {
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
struct IncidentRow {
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
struct WithheldRow {
    condition: &'static str,
    about: Option<String>,
    why: String,
    episodes: usize,
    passes: u64,
    first: String,
    last: String,
}

#[derive(Serialize)]
struct RestartRow {
    at: String,
    action: &'static str,
    attempt: u32,
    made: bool,
    gates: String,
}

#[derive(Serialize)]
struct JobRow {
    job: String,
    schedule: String,
    counts: [String; 5],
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
        .map(|(index, chapter)| Draft::new(chapter, story.axis, index, Share::of(shown)).view())
        .collect();
    Page {
        css: include_str!("page.css"),
        passes: count(story.passes, "pass"),
        every: lasted(story.every),
        more_chapters: story.chapters.len() - shown,
        overview,
        language: story.language.code(),
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
        .filter(|incident| incident.slot == Slot::Loop)
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
#[cfg(test)]
mod tests;
