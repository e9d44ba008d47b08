//! One scheduler's part of the page.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::{Timestamp, ZonedDateTime};

use super::scale::{area, percent, ticks};
use super::words::{brief, count, hints, lasted, names, thousands};
use super::{
    Bar, Block, ChapterView, IncidentRow, JobRow, LaneView, List, Mark, MessageView, RestartRow,
    Share, Summary, Track, WithheldRow, overview, told_after,
};
use crate::condition::Severity;
use crate::plan::{Occasion, Verdict};
use crate::replay::story::{
    Axis, COLUMNS, Chapter, Episode, Fate, Incident, Lane, Restart, Span, Standing, Told,
};

/// The part of a track that a mark takes; those that would lie closer together are one.
const MARK: f64 = 0.0135;

/// The same as columns.
const MARKS: usize = 74;

/// Bars of incidents in one track; the longest are drawn.
const MOST_BARS: usize = 100;

/// Rows of bars that do not overlap; the last takes what finds no room.
const MOST_BAR_ROWS: usize = 5;

/// The part of a track that a letter takes, on a small screen.
const LETTER: f64 = 0.0085;

/// A chapter on its way to the page.
pub(super) struct Draft<'s> {
    chapter: &'s Chapter,
    axis: Axis,
    index: usize,
    share: Share,
    /// The zone's offset changes within the span, so that times must name it.
    offsets: bool,
    /// The messages that are shown in full.
    shown: Vec<bool>,
}

impl<'s> Draft<'s> {
    pub fn new(chapter: &'s Chapter, axis: Axis, index: usize, share: Share) -> Self {
        let change = chapter.zone.following(axis.from).next();
        let offsets = change.is_some_and(|change| change.timestamp() < axis.until);
        Self {
            chapter,
            axis,
            index,
            offsets,
            share,
            shown: shown(&chapter.messages, share.messages),
        }
    }

    pub fn view(&self) -> ChapterView {
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
        let not_shown = self.shown.iter().filter(|shown| !**shown).count();
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
            left_out: chapter.left_out,
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
            more_messages: not_shown,
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

    /// From one moment to another; a date is not said twice.
    fn between(&self, from: Timestamp, until: Timestamp) -> String {
        let (begin, end) = (self.time(from), self.time(until));
        let same_day = self.zoned(from).date() == self.zoned(until).date();
        let end = end.get(11..).filter(|_| same_day).unwrap_or(&end);
        format!("{begin} – {end}")
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
        let end = |incident: &Incident| incident.until.unwrap_or(self.axis.until);
        let more_bars = incidents.len().saturating_sub(MOST_BARS);
        incidents.sort_by_key(|i| Reverse(end(i).duration_since(i.since)));
        incidents.truncate(MOST_BARS);
        incidents.sort_by_key(|incident| incident.since);
        let mut bars = Vec::new();
        for incident in incidents {
            let until = end(incident);
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
        if lanes.len() > self.share.lanes {
            let is_fine = |lane: &Lane| {
                lane.count(Fate::Failed) + lane.count(Fate::Missed) == 0
                    && !(self.chapter.incidents.iter())
                        .any(|incident| incident.job.as_ref() == Some(&lane.job))
            };
            order.sort_by_key(|index| is_fine(&lanes[*index]));
            order.truncate(self.share.lanes);
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

    pub fn summary(&self) -> Summary {
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
            words: Fate::ALL.map(word),
            jobs: (chapter.lanes.iter())
                .map(|lane| JobRow {
                    job: lane.job.clone(),
                    schedule: lane.schedule.clone(),
                    counts: lane.counts.map(thousands),
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
fn shown(messages: &[Told], most: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..messages.len()).collect();
    order.sort_by_key(|index| rank(messages[*index].occasion));
    let mut shown = vec![false; messages.len()];
    for index in order.into_iter().take(most) {
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
        // No replay holds one.
        Occasion::Test => "",
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
