//! What must hold at every step, with the truth as the judge. Each check bears the number of the
//! invariant that it belongs to (see the crate's front page):
//!
//! | check | what must hold |
//! |---|---|
//! | `1 told` | a silence longer than allowed plus ten minutes (the longest overlap), which nothing excuses, is told in the third look that sees it at the latest |
//! | `1 bound` | where nothing else happened within 40 minutes, and nothing was withheld, the alert comes within the allowed silence, one interval (two with a health endpoint), the overlap and a minute after the last heartbeat; of runs that abort, after the end of a run that the loop waited for |
//! | `1 once`, `1 order` | one `opened` for an incident, first of its messages; nothing after `resolved`; no outage twice |
//! | `1 all-clear` | no `resolved` of the loop without a heartbeat since `opened`, unless it was switched off |
//! | `1 life` | no line of a run by hand is taken for a heartbeat of the schedule, where the call was answered |
//! | `1 over` | after more than four good looks in a row the incident is over; a flapping one, 30 minutes and two intervals later |
//! | `1 end` | in the calm at the end of a world no incident of the loop is left |
//! | `2 unknown`, `2 silence`, `2 storm` | no restart while the log or ECS is unknown, the service is off or deploying, a silence holds, or more than half of three schedulers are down |
//! | `2 health` | no restart of a loop that ran within a minute by its application's own word |
//! | `2 claim`, `2 caps` | one call for a claim, and none without; two restarts for an incident, three a day |
//! | `2 needless`, `2 busy` | in a clear view no restart of a loop that lives, or that runs a job; no run by hand of a schedule that starts tasks, or a task of which has not ended |
//! | `3 claim`, `3 delivered`, `3 end` | nothing is sent before it is claimed; all that was claimed is delivered, a reminder perhaps by a newer one; nothing waits at the end |
//! | `4 pace` | an hour at least before a reminder |
//! | `5 pure`, `5 twice` | the same input gives the same decision; deciding again plans nothing |
//! | `6 order` | streams in another order change nothing (worlds `as text` read lines twice and out of order, too) |
//! | `7 size`, `7 document` | the document stays within 64 KiB, and reads as it was written |
//! | `8 harmless` | subjects are ASCII of at most 99 characters; no message holds control characters or mentions |
//! | `false alarm` | what is told is true, where lines were not lost or late |
//!
//! "Clear" leaves out 45 minutes after lines were lost or late; what a first long run or a run that
//! was cut short looks like is counted, and no violation.
//!
//! Of scheduled tasks the same holds. Only the tasks that the schedule started count as its life, not
//! those that were run by hand; no run waits for another, so none explains a silence.

mod alarm;
mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::condition::{Condition, Slot};
use scheduler_watchdog::config::{Config, Scheduler};
use scheduler_watchdog::decide::decide;
use scheduler_watchdog::message::Message;
use scheduler_watchdog::plan::{Notification, Occasion};
use scheduler_watchdog::snapshot::{Fleet, Snapshot};
use scheduler_watchdog::state::{MOST_BYTES, Outcome, Phase, State};

use crate::report::Figures;
use crate::scenario::{Scenario, What};
use crate::truth::Site;
use crate::world::Seen;
use alarm::{CUT_SHORT, LONG_RUN, allowed_by};

/// Beyond the bounds of the design: a pass takes some seconds, and a line a few to arrive.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// The longest overlap of two windows.
const LONGEST_OVERLAP: SignedDuration = SignedDuration::from_mins(10);

/// What was blurred this long ago can still be the reason of an alarm.
const BLURRED_FOR: SignedDuration = SignedDuration::from_mins(45);

/// Good looks in a row after which an incident of the loop must be over: two, one more that
/// another invocation may have made, and one within which the beats may not be new.
const GOOD_LOOKS: u32 = 4;

/// How long a flapping incident is held open.
const STEADY: SignedDuration = SignedDuration::from_mins(30);

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The defaults of `remind_after`, `attempts_per_incident` and `attempts_per_day`.
const REMIND_AFTER: SignedDuration = SignedDuration::from_hours(1);
const ATTEMPTS_PER_INCIDENT: usize = 2;
const ATTEMPTS_PER_DAY: usize = 3;

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The invariant of the design (§11), and which part of it.
    pub check: &'static str,
    pub at: Timestamp,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.0}: {}", self.check, self.at, self.text)
    }
}

/// A message that was decided.
struct Planned {
    occasion: Occasion,
    incident: String,
    at: Timestamp,
    accepted: u32,
}

/// What people were told of an incident.
struct Told {
    slot: Slot,
    opened_at: Timestamp,
    last_at: Timestamp,
    resolved: bool,
    messages: u32,
    restarts: usize,
    /// When the loop was last well, or meant to be off, before it, where it is about the loop and true.
    silent_since: Option<Timestamp>,
    /// The silence that was allowed, by its proof.
    allowed: SignedDuration,
    overlap: SignedDuration,
    heard: bool,
}

#[derive(Default)]
struct Watched {
    planned: BTreeMap<String, Planned>,
    told: BTreeMap<String, Told>,
    /// Incidents of the loop, by the last heartbeat before them.
    outages: BTreeSet<Timestamp>,
    /// Claims of restarts: incident and time.
    claims: BTreeMap<(String, Timestamp), u32>,
    /// Restarts that were really made.
    restarts: Vec<(Timestamp, String)>,
    silences: Vec<(Timestamp, Timestamp)>,
    /// Looks in a row that saw a silence that must be told.
    bad_looks: u32,
    last_bad: Option<Timestamp>,
    good_looks: u32,
    good_since: Option<Timestamp>,
    last_good: Option<Timestamp>,
    last_seen_beat: Option<Timestamp>,
}

/// Watches the watchdog.
pub struct Inspector<'a> {
    scenario: &'a Scenario,
    config: Config,
    watched: Vec<Watched>,
    pub violation: Option<Violation>,
    pub figures: Figures,
    /// What happened, if it is to be told.
    pub story: Option<Vec<(Timestamp, String)>>,
    saves: u64,
}

impl<'a> Inspector<'a> {
    pub fn new(scenario: &'a Scenario, config: &Config, tell: bool) -> Self {
        Self {
            scenario,
            config: config.clone(),
            watched: (scenario.sites.iter())
                .map(|_| Watched::default())
                .collect(),
            violation: None,
            figures: Figures::default(),
            story: tell.then(Vec::new),
            saves: 0,
        }
    }

    fn violated(&mut self, check: &'static str, at: Timestamp, text: String) {
        self.tell(at, || format!("VIOLATED {check}: {text}"));
        self.violation.get_or_insert(Violation { check, at, text });
    }

    pub fn tell(&mut self, at: Timestamp, text: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push((at, text()));
        }
    }

    pub fn silenced(&mut self, site: usize, from: Timestamp, until: Timestamp) {
        self.tell(from, || format!("s{site}: silenced until {until:.0}"));
        self.watched[site].silences.push((from, until));
    }

    /// Whether messages and restarts are withheld at a moment; the edges left out.
    fn is_silenced(&self, site: usize, at: Timestamp) -> bool {
        let setup = &self.scenario.sites[site];
        let nightly = setup.maintenance && {
            let wall = setup.zone().to_datetime(at);
            wall.hour() == 3
        };
        let asked = &self.watched[site].silences;
        nightly || asked.iter().any(|(from, until)| *from <= at && at < *until)
    }

    /// Whether such a thing happened at a scheduler within a span.
    fn happened(
        &self,
        site: usize,
        from: Timestamp,
        until: Timestamp,
        what: impl Fn(What) -> bool,
    ) -> bool {
        (self.scenario.events.iter()).any(|event| {
            event.concerns(site) && event.from <= until && event.until >= from && what(event.what)
        })
    }

    fn is_blurred(&self, site: usize, since: Timestamp, at: Timestamp) -> bool {
        let from = since.min(at) - BLURRED_FOR;
        self.happened(site, from, at, What::blurs_the_log)
    }

    /// A state is written. Returns it as it can be read again.
    pub fn stored(&mut self, site: usize, state: &State, now: Timestamp) -> State {
        self.saves += 1;
        let every = if self.scenario.as_text { 7 } else { 97 };
        if !self.saves.is_multiple_of(every) {
            return state.clone();
        }
        let text = state.to_json();
        self.figures.largest_state = self.figures.largest_state.max(text.len());
        if text.len() > MOST_BYTES {
            self.violated("7 size", now, format!("{} bytes", text.len()));
        }
        match State::from_json(&text) {
            Ok(read) if read.outbox == state.outbox && read.incidents == state.incidents => read,
            other => {
                let text = format!("s{site}: what was written is not what is read: {other:?}");
                self.violated("7 document", now, text);
                state.clone()
            }
        }
    }

    /// A pass won its claim.
    pub fn claimed(
        &mut self,
        site: usize,
        scheduler: &Scheduler,
        truth: &Site,
        seen: &Seen,
        next: &State,
        now: Timestamp,
    ) {
        self.figures.looks += 1;
        if let Some(sample) = &seen.sample {
            self.decides_once(scheduler, seen, sample, next);
        }
        for attempt in &next.restarts.attempts {
            if attempt.outcome == Outcome::Claimed && attempt.claimed_at == seen.now {
                let claim = (attempt.incident.clone(), attempt.claimed_at);
                self.watched[site].claims.entry(claim).or_default();
            }
        }
        for notification in &next.outbox {
            if !self.watched[site].planned.contains_key(&notification.id) {
                self.planned(site, truth, notification, next, seen);
            }
        }
        self.must_be_its_own(site, truth, seen, next);
        self.must_be_told(site, truth, seen, next, now);
        self.must_be_over(site, truth, seen, next);
    }

    /// Invariant 5, and that the decision depends on nothing but its input.
    fn decides_once(
        &mut self,
        scheduler: &Scheduler,
        seen: &Seen,
        sample: &crate::world::Sample,
        next: &State,
    ) {
        let Some(log) = &sample.log else { return };
        // The pass alone knows who had been judged by then: it was a storm, or it was none.
        let [calm, storm] = [0, 3].map(|firing| Snapshot {
            log: log.clone(),
            probe: sample.probe.clone(),
            service: sample.service.clone(),
            health: sample.health.clone(),
            fleet: Fleet { watched: 3, firing },
        });
        let now = seen.now;
        let same =
            |snapshot: &Snapshot| decide(scheduler, snapshot, &sample.before, now).1 == *next;
        let snapshot = if same(&calm) { calm } else { storm };
        if !same(&snapshot) {
            let text = "the same input gave another decision".to_owned();
            self.violated("5 pure", now, text);
        }
        let (plan, twice) = decide(scheduler, &snapshot, next, now);
        if !plan.is_empty() || twice.outbox != next.outbox {
            self.violated("5 twice", now, format!("planned again: {plan}"));
        }
        // Invariant 6: what is read again, and in another order, changes nothing.
        let mut other = snapshot.clone();
        if let scheduler_watchdog::snapshot::Observed::Known(window) = &mut other.log {
            // Streams are independent: theirs is the only order that a window promises.
            window.lines.sort_by(|a, b| b.stream.cmp(&a.stream));
            let (plan, reordered) = decide(scheduler, &other, &sample.before, now);
            let same = reordered.incidents == next.incidents
                && reordered.outbox == next.outbox
                && reordered.jobs == next.jobs;
            if !same {
                self.violated("6 order", now, format!("streams in another order: {plan}"));
            }
        }
    }

    /// A message was decided and stands in the store.
    fn planned(
        &mut self,
        site: usize,
        truth: &Site,
        notification: &Notification,
        next: &State,
        seen: &Seen,
    ) {
        let n = notification;
        let now = n.at;
        self.tell(now, || {
            let subject = n.subject.as_deref().unwrap_or_default();
            let occasion = n.occasion.id();
            format!(
                "s{site}: decides {occasion} {} {subject} ({})",
                n.condition,
                n.cause_id()
            )
        });
        let planned = Planned {
            occasion: n.occasion,
            incident: n.incident.clone(),
            at: n.at,
            accepted: 0,
        };
        self.watched[site].planned.insert(n.id.clone(), planned);
        let quiet = self.is_silenced(site, now);
        if quiet {
            self.violated("2 silence", now, format!("told in a silence: {}", n.id));
        }
        let known = self.watched[site].told.contains_key(&n.incident);
        if !known {
            if !matches!(n.occasion, Occasion::Opened | Occasion::Flapping) {
                self.violated("1 order", now, format!("{} before opened", n.id));
            }
            self.opened(site, truth, n, next, seen);
            return;
        }
        let Some(told) = self.watched[site].told.get_mut(&n.incident) else {
            return;
        };
        let pause = n.at.duration_since(told.last_at);
        let (was_resolved, opened_at) = (told.resolved, told.opened_at);
        told.last_at = n.at;
        told.messages += 1;
        told.resolved |= n.occasion == Occasion::Resolved;
        if was_resolved {
            self.violated("1 order", now, format!("{} after resolved", n.id));
        }
        match n.occasion {
            Occasion::Opened => self.violated("1 once", now, format!("{} again", n.id)),
            Occasion::Reminder if pause < REMIND_AFTER => {
                self.violated("4 pace", now, format!("{} after {pause:#}", n.id));
            }
            Occasion::Resolved if n.condition.slot() == Slot::Loop => {
                let off = truth.desired == 0 || truth.off_at > Some(opened_at);
                if truth.last_beat(now) <= Some(opened_at) && !off {
                    let text = format!("{}: no heartbeat since {opened_at:.0}", n.id);
                    self.violated("1 all-clear", now, text);
                }
            }
            _ => {}
        }
    }

    /// A new incident: is it true?
    fn opened(&mut self, site: usize, truth: &Site, n: &Notification, next: &State, seen: &Seen) {
        let now = n.at;
        let slot = n.condition.slot();
        let allowed = allowed_by(n);
        // Runs that abort prove no silence; they are told after almost as long.
        let usual = self.config.schedulers[site].stale_after;
        let stale = (next.heartbeats.stale_after(usual)).max(SignedDuration::from_mins(10));
        let verdict = self.is_true(site, truth, n, seen);
        let lived_until = match n.condition {
            // Until then no run could abort.
            Condition::SchedulerFailing => truth.lived_until(now),
            _ => truth.silent_since(now),
        };
        let told = Told {
            slot,
            opened_at: now,
            last_at: now,
            resolved: false,
            messages: 1,
            restarts: 0,
            silent_since: lived_until.filter(|_| slot == Slot::Loop && verdict.is_ok()),
            allowed: allowed.unwrap_or(stale),
            overlap: next.overlap(),
            heard: false,
        };
        if let (Slot::Loop, Ok(()), Some(since)) = (slot, &verdict, truth.last_beat(now)) {
            let off = truth.setup.ecs && truth.off_at > Some(since);
            if !self.watched[site].outages.insert(since) && !off {
                let text = format!("{}: the outage since {since:.0} was told before", n.id);
                self.violated("1 once", now, text);
            }
        }
        if let Err(why) = verdict {
            let blurred = self.is_blurred(site, n.since, now);
            let by_the_log = blurred || why == LONG_RUN || why == CUT_SHORT;
            *self
                .figures
                .false_alarms
                .entry((n.condition.id(), by_the_log))
                .or_default() += 1;
            self.tell(now, || format!("s{site}: FALSE ALARM {} ({why})", n.id));
            if !by_the_log {
                let text = format!("{} since {:.0}: {why}", n.id, n.since);
                self.violated("false alarm", now, text);
            }
        }
        self.watched[site].told.insert(n.incident.clone(), told);
    }

    /// The least silence that counts.
    fn stale_after(&self, site: usize) -> SignedDuration {
        SignedDuration::from_mins(self.scenario.sites[site].stale_after.unwrap_or(5))
    }

    /// Invariant 1: a run by hand does not show that a schedule lives. A task whose call was not
    /// answered cannot be told from others at first.
    fn must_be_its_own(&mut self, site: usize, truth: &Site, seen: &Seen, next: &State) {
        let Some(last) = next.heartbeats.last else {
            return;
        };
        let at = seen.now;
        let lately = at.duration_since(last) < LONGEST_OVERLAP;
        let unanswered = self.happened(site, at - DAY, at, |what| {
            matches!(what, What::NoRestart { .. } | What::Killed(_))
        });
        let of_tasks = self.scenario.sites[site].task_every.is_some();
        if of_tasks && lately && !unanswered && !truth.is_beat(last) {
            let text = format!("s{site}: {last} is no heartbeat of the schedule");
            self.violated("1 life", at, text);
        }
    }

    /// Invariant 1: a silence that has lasted for longer than is allowed, and that nothing
    /// excuses, is told in the second look that sees it at the latest.
    fn must_be_told(
        &mut self,
        site: usize,
        truth: &Site,
        seen: &Seen,
        next: &State,
        now: Timestamp,
    ) {
        let scheduler = &self.config.schedulers[site];
        let at = seen.now;
        if truth.silent_for(at) < LONGEST_OVERLAP {
            self.watched[site].bad_looks = 0;
            self.watched[site].last_bad = None;
            return;
        }
        let silence = scheduler_watchdog::judge::Silence::of(scheduler, next, at);
        let lasts = truth.last_beat(at).map(|last| at.duration_since(last));
        let over = lasts.is_some_and(|lasts| lasts > silence.allowed + LONGEST_OVERLAP);
        let off = truth
            .off_at
            .is_some_and(|off| at.duration_since(off) < silence.allowed + SLACK * 15);
        let excused = off || truth.is_excused(at) || truth.is_excused(now);
        let quiet = self.is_silenced(site, at);
        let told = next.incident(Slot::Loop, None).is_some_and(|i| i.is_open());
        let watched = &mut self.watched[site];
        if !seen.log_known || seen.log_cut || !over || excused || quiet || told {
            watched.bad_looks = 0;
            watched.last_bad = None;
            return;
        }
        if watched
            .last_bad
            .is_none_or(|last| at.duration_since(last) >= SLACK)
        {
            watched.bad_looks += 1;
            watched.last_bad = Some(at);
        }
        if watched.bad_looks >= 3 {
            let text = format!(
                "s{site}: silent for {:#}, and nobody was told",
                lasts.unwrap_or_default()
            );
            self.violated("1 told", at, text);
        }
    }

    /// Invariant 1: an outage that is over is told to be over.
    fn must_be_over(&mut self, site: usize, truth: &Site, seen: &Seen, next: &State) {
        let at = seen.now;
        let beat = next.heartbeats.last;
        let excused = truth.is_excused(at);
        // Two minutes more than the pause between two runs.
        let every_run = self.scenario.sites[site].task_every.unwrap_or(1);
        let fresh = SignedDuration::from_mins(2 + every_run);
        let lives = truth.silent_for(at) < fresh;
        let failing = next
            .heartbeats
            .aborts
            .last()
            .is_some_and(|abort| at.duration_since(*abort) < SignedDuration::from_mins(75));
        let quiet = self.is_silenced(site, at);
        let every = self.scenario.every;
        let watched = &mut self.watched[site];
        let good = seen.log_known
            && lives
            && !excused
            && !failing
            && !quiet
            && beat > watched.last_seen_beat
            && beat.is_some_and(|beat| at.duration_since(beat) < fresh);
        watched.last_seen_beat = beat;
        if !good {
            (watched.good_looks, watched.good_since, watched.last_good) = (0, None, None);
            return;
        }
        if watched
            .last_good
            .is_none_or(|last| at.duration_since(last) >= SLACK)
        {
            watched.good_looks += 1;
            watched.last_good = Some(at);
        }
        let since = *watched.good_since.get_or_insert(at);
        let Some(incident) = next.incident(Slot::Loop, None) else {
            return;
        };
        // The first good look may not count, and the last may come just too early.
        let patience = if incident.flapping {
            STEADY + every * 2
        } else {
            SignedDuration::ZERO
        };
        if incident.is_open()
            && watched.good_looks > GOOD_LOOKS
            && at.duration_since(since) > patience
        {
            let text = format!(
                "s{site}: good since {since:.0}, and {} is open",
                incident.id
            );
            self.violated("1 over", at, text);
        }
    }

    /// The topic took a message.
    pub fn accepted(&mut self, site: usize, message: &Message, now: Timestamp) {
        let n = &message.notification;
        self.tell(now, || {
            format!("s{site}: TOLD {} [{}]", message.subject, n.occasion.id())
        });
        self.is_harmless(message, now);
        let watched = &mut self.watched[site];
        let Some(planned) = watched.planned.get_mut(&n.id) else {
            let text = format!("{} was sent before it was claimed", n.id);
            self.violated("3 claim", now, text);
            return;
        };
        planned.accepted += 1;
        if planned.accepted > 1 {
            self.figures.repeated += 1;
            return;
        }
        self.figures.messages += 1;
        let opens = matches!(planned.occasion, Occasion::Opened | Occasion::Flapping);
        let Some(told) = watched
            .told
            .get_mut(&n.incident)
            .filter(|told| opens && !told.heard)
        else {
            return;
        };
        told.heard = true;
        let Some(since) = told.silent_since else {
            return;
        };
        let took = now.duration_since(since);
        let (allowed, overlap) = (told.allowed, told.overlap);
        // An endpoint that finds the loop alive asks for a second look.
        let looks = if self.scenario.sites[site].health {
            2
        } else {
            1
        };
        let bound = allowed + self.scenario.every * looks + overlap + SLACK;
        let disturbed = self.is_disturbed(site, since, now);
        let setup = &self.scenario.sites[site];
        // Dead logs wait for a second look, and a job that may be running makes any alarm wait.
        let usual = n.condition == Condition::SchedulerSilent
            && setup.stale_after.is_none()
            && setup.idle_lines
            && setup.ecs
            && setup.task_every.is_none_or(|minutes| minutes == 1)
            && allowed <= self.stale_after(site) + SLACK
            && self.scenario.every == SignedDuration::from_mins(5);
        let seed = self.scenario.seed;
        self.figures.alerted(took, seed, !disturbed, usual);
        if !disturbed && took > bound {
            let text = format!("{}: told after {took:#}, the bound is {bound:#}", n.id);
            self.violated("1 bound", now, text);
        }
    }

    /// Whether anything but one trouble of the scheduler itself touched the time of an alarm.
    fn is_disturbed(&self, site: usize, since: Timestamp, now: Timestamp) -> bool {
        let from = since - SignedDuration::from_mins(40);
        let mut troubles = 0;
        for event in &self.scenario.events {
            let touches = event.concerns(site) && event.from <= now && event.until >= from;
            match event.what {
                _ if !touches => {}
                What::LoopDies { .. }
                | What::Failing
                | What::Down
                | What::LogsDie
                | What::ScheduleOff
                | What::TasksFail { .. }
                | What::TasksMute { .. } => troubles += 1,
                _ => return true,
            }
        }
        let minutes = (0..=now.duration_since(since).as_mins()).map(SignedDuration::from_mins);
        let mut moments = minutes.map(|ago| now - ago).chain([since]);
        troubles > 1 || moments.any(|at| self.is_silenced(site, at))
    }

    /// Invariant 8: whatever a line held, a message is text for its readers and nothing else.
    fn is_harmless(&mut self, message: &Message, now: Timestamp) {
        let control = |text: &str| {
            (text.chars())
                .any(|c| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}'))
        };
        let subject = &message.subject;
        let chat = message.chat.to_string();
        let bad = !subject.is_ascii()
            || subject.len() > 99
            || control(subject)
            || subject.contains('\n')
            || control(&message.text)
            || chat.contains("<!channel>");
        if bad {
            self.violated(
                "8 harmless",
                now,
                format!("{subject}\n{}\n{chat}", message.text),
            );
        }
    }

    /// The world is well again for a while: everything must be over and told.
    pub fn ended(&mut self, site: usize, truth: &Site, state: &State, now: Timestamp) {
        for incident in &state.incidents {
            let of_jobs = incident.slot.is_of_jobs();
            if incident.phase != Phase::Resolved && !of_jobs {
                let text = format!("{} is still {:?}", incident.id, incident.phase);
                self.violated("1 end", now, text);
            }
        }
        if let Some(waiting) = state.outbox.first() {
            self.violated("3 end", now, format!("{} still waits", waiting.id));
        }
        let watched = &self.watched[site];
        let newer_reminder = |planned: &Planned| {
            (watched.planned.values()).any(|other| {
                other.incident == planned.incident
                    && other.occasion == Occasion::Reminder
                    && other.at > planned.at
            })
        };
        let lost = (watched.planned.iter()).find(|(_, planned)| {
            let replaced = planned.occasion == Occasion::Reminder && newer_reminder(planned);
            planned.accepted == 0 && !replaced
        });
        if let Some(text) = lost.map(|(id, _)| format!("{id} was never delivered")) {
            self.violated("3 delivered", now, text);
        }
        for told in self.watched[site].told.values() {
            if told.resolved {
                self.figures
                    .incident(told.slot, told.messages, told.restarts);
            }
        }
        let _ = truth;
    }
}
