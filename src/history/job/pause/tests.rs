use super::super::{DAY, HOUR};
use super::*;

/// A job that begins every five minutes, each time told by the line of its start alone.
fn frequent() -> (JobHistory, Timestamp) {
    let mut history = JobHistory::default();
    let mut at: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
    for _ in 0..MOST_STARTS + 1 {
        at += FIVE;
        history.started(at);
        history.paused(at, SignedDuration::ZERO);
    }
    (history, at)
}

const FIVE: SignedDuration = SignedDuration::from_mins(5);

fn pause_after(history: &mut JobHistory, start: Timestamp, mins: i64) {
    history.started(start);
    history.paused(start, SignedDuration::from_mins(mins));
}

#[test]
fn a_pause_that_is_odd_for_a_job_is_its_length_when_it_comes_again() {
    let (mut history, at) = frequent();
    pause_after(&mut history, at + FIVE, 50);
    assert_eq!(history.longest(), Some(SignedDuration::ZERO));
    assert_eq!(history.may_take(at + HOUR), Some(HOUR - FIVE * 2));
    // Windows overlap: it is read again and again.
    history.paused(at + FIVE, HOUR - FIVE * 2);
    assert_eq!(history.longest(), Some(SignedDuration::ZERO));

    let next_day = at + DAY;
    for minutes in [0, 5, 10] {
        pause_after(
            &mut history,
            next_day + SignedDuration::from_mins(minutes),
            0,
        );
    }
    pause_after(&mut history, next_day + FIVE * 3, 40);
    assert_eq!(history.longest(), Some(FIVE * 8));
    // The longer of the two may come again, too.
    assert_eq!(history.may_take(next_day + HOUR), Some(FIVE * 10));
}

#[test]
fn a_pause_that_is_not_odd_for_a_job_is_its_length_at_once() {
    let mut history = JobHistory::default();
    let at: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
    pause_after(&mut history, at, 49);
    pause_after(&mut history, at + DAY, 50);
    assert_eq!(history.longest(), Some(FIVE * 10));
    assert_eq!(history.may_take(at + DAY), None);
}

#[test]
fn an_odd_pause_that_does_not_come_again_is_forgotten() {
    let (mut history, at) = frequent();
    pause_after(&mut history, at + FIVE, 50);
    let later = at + FIVE + REMEMBERED;
    assert_eq!(history.may_take(later), None);
    for before in [3, 2, 1] {
        pause_after(&mut history, later - FIVE * before, 0);
    }
    pause_after(&mut history, later, 40);
    assert_eq!(history.longest(), Some(SignedDuration::ZERO));
    assert_eq!(history.may_take(later + HOUR), Some(FIVE * 8));
}

#[test]
fn an_odd_pause_that_comes_again_as_it_was_is_doubted_no_more() {
    let (mut history, at) = frequent();
    pause_after(&mut history, at + FIVE, 50);
    pause_after(&mut history, at + HOUR, 0);
    pause_after(&mut history, at + HOUR + FIVE, 50);
    assert_eq!(history.longest(), Some(FIVE * 10));
    assert_eq!(history.may_take(at + HOUR * 2), None);
}

/// The second begins after the first one's end, or it is the same hole.
#[test]
fn two_pauses_lie_apart_when_one_begins_after_the_others_end() {
    let start: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
    let pause = |after: i64, seconds: i64| Pause {
        start: start + SignedDuration::from_secs(after),
        seconds,
    };
    for (after, apart) in [(599, false), (600, false), (601, true)] {
        for (first, second) in [(600, 60), (60, 600)] {
            assert_eq!(pause(0, first).is_apart(&pause(after, second)), apart);
            assert_eq!(pause(after, second).is_apart(&pause(0, first)), apart);
        }
    }
}

/// All streams of a log have its holes.
#[test]
fn one_hole_in_two_streams_is_one() {
    let (mut history, at) = frequent();
    pause_after(&mut history, at + FIVE, 50);
    pause_after(&mut history, at + FIVE * 2, 45);
    assert_eq!(history.longest(), Some(SignedDuration::ZERO));
}

#[test]
fn lines_that_come_late_fill_an_odd_pause() {
    let (mut history, at) = frequent();
    pause_after(&mut history, at + FIVE, 50);
    pause_after(&mut history, at + FIVE, 20);
    assert_eq!(history.may_take(at + HOUR), Some(FIVE * 4));
    pause_after(&mut history, at + FIVE, 0);
    assert_eq!(history.may_take(at + HOUR), None);
    assert_eq!(history.longest(), Some(SignedDuration::ZERO));
}

#[test]
fn a_run_that_newer_ones_have_pushed_out_is_not_judged_again() {
    let (mut history, at) = frequent();
    let before = history.clone();
    for runs in [3, 2] {
        history.paused(at - FIVE * runs, HOUR);
        assert_eq!(history, before);
    }
}
