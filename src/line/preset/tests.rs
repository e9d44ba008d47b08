use std::collections::HashSet;

use jiff::Timestamp;
use proptest::prelude::*;
use regex::Regex;

use super::spec::{MAX_PATTERN, compile};
use super::*;
use crate::line::{JobEvent, Kind, Line, LogEvent, Pulse, read};

fn event(message: &str) -> LogEvent {
    LogEvent {
        at: Timestamp::UNIX_EPOCH,
        ingested: None,
        stream: "app/app/1".into(),
        id: None,
        message: message.to_owned(),
    }
}

fn filter(preset: &Preset) -> Regex {
    let body = preset
        .coarse_filter()
        .expect("every pattern requires a word");
    Regex::new(&format!("(?i)({body})")).unwrap()
}

/// Checks what was read from an example against what it says must be read.
fn check(spec: &PatternSpec, example: &Example, lines: &[Line]) {
    let shown = &example.line;
    if spec.kind == PatternKind::Other {
        assert!(lines.iter().all(|line| line.kind == Kind::Other), "{shown}");
        return;
    }
    let line = lines.iter().find(|line| line.kind != Kind::Other);
    let line = line.unwrap_or_else(|| panic!("nothing was read from {shown}"));
    if let Some(text) = &example.text {
        assert_eq!(&line.text, text, "{shown}");
    }
    match (spec.kind, &line.kind) {
        (PatternKind::Idle, Kind::Heartbeat(Pulse::Idle))
        | (PatternKind::Banner, Kind::Heartbeat(Pulse::Banner))
        | (PatternKind::Boot, Kind::Boot)
        | (PatternKind::Held, Kind::Held)
        | (PatternKind::Released, Kind::Released) => {}
        (
            kind,
            Kind::Job {
                name,
                event,
                background,
            },
        ) => {
            assert_eq!(Some(name), example.job.as_ref(), "{shown}");
            assert_eq!(
                *background,
                example.background.unwrap_or(*background),
                "{shown}"
            );
            let took = match event {
                JobEvent::Ended { took }
                | JobEvent::Succeeded { took }
                | JobEvent::Failed { took, .. } => *took,
                _ => None,
            };
            let milliseconds = took.map(|took| took.as_micros() as f64 / 1000.0);
            assert_eq!(milliseconds, example.took, "{shown}");
            match (kind, event) {
                (PatternKind::Started, JobEvent::Started | JobEvent::CutOff)
                | (PatternKind::Skipped, JobEvent::Skipped)
                | (PatternKind::Ended, JobEvent::Ended { .. })
                | (PatternKind::Succeeded, JobEvent::Succeeded { .. }) => {}
                (PatternKind::Failed, JobEvent::Failed { exit_code, .. }) => {
                    assert_eq!(*exit_code, example.exit_code, "{shown}");
                }
                other => panic!("{other:?} was read from {shown}"),
            }
        }
        (
            PatternKind::Error,
            Kind::Error {
                aborts,
                context,
                trace,
            },
        ) => {
            assert_eq!(*aborts, spec.aborts, "{shown}");
            if example.context.is_some() {
                assert_eq!(*context, example.context, "{shown}");
            }
            assert_eq!(
                trace.len(),
                example.trace.unwrap_or(trace.len()),
                "{trace:?}"
            );
        }
        other => panic!("{other:?} was read from {shown}"),
    }
    assert_eq!(
        line.is_heartbeat(),
        spec.heartbeat
            .unwrap_or(matches!(line.kind, Kind::Heartbeat(_) | Kind::Job { .. })),
        "{shown}"
    );
}

#[test]
fn every_example_is_read_as_it_says() {
    for name in Preset::names() {
        let preset = Preset::named(name).unwrap();
        let filter = filter(&preset);
        for (index, spec) in preset.0.specs.iter().enumerate() {
            assert!(!spec.examples.is_empty(), "no example for {}", spec.pattern);
            for example in &spec.examples {
                let lines: Vec<_> = super::super::clean::lines(&example.line).collect();
                assert!(
                    lines.iter().any(|line| preset
                        .classify(line)
                        .is_some_and(|(found, ..)| found == index)),
                    "a pattern before `{}` takes {}",
                    spec.pattern,
                    example.line
                );
                check(spec, example, &read(&preset, &[event(&example.line)]));
                let events: Vec<_> = example.line.split('\n').map(event).collect();
                check(spec, example, &read(&preset, &events));
                // What the log service would let through says the same.
                let kept: Vec<_> = events
                    .iter()
                    .filter(|event| filter.is_match(&event.message))
                    .cloned()
                    .collect();
                check(spec, example, &read(&preset, &kept));
                assert!(
                    !preset.0.patterns[index].matters() || filter.is_match(&example.line),
                    "{}",
                    example.line
                );
            }
        }
    }
}

#[test]
fn a_pattern_may_be_as_long_as_it_may() {
    for (length, fits) in [(MAX_PATTERN, true), (MAX_PATTERN + 1, false)] {
        let spec = PatternSpec::new(PatternKind::Error, "x".repeat(length));
        assert_eq!(spec.check().is_ok(), fits, "{length}");
    }
}

#[test]
fn what_holds_for_a_preset_holds_for_those_that_include_it() {
    let those = |holds: fn(&Preset) -> bool| -> Vec<&str> {
        let names = Preset::names().iter().copied();
        names
            .filter(|name| holds(&Preset::named(name).unwrap()))
            .collect()
    };
    assert_eq!(those(Preset::is_laravel), ["laravel", "supervisord"]);
    assert_eq!(
        those(Preset::done_means_success),
        ["celery-worker", "supercronic", "apscheduler", "node-cron"]
    );
}

/// They are compiled only when they are needed; a mistake must not wait for that.
#[test]
fn every_pattern_and_block_of_a_preset_compiles() {
    for name in Preset::names() {
        let preset = Preset::named(name).unwrap();
        for spec in &preset.0.specs {
            spec.check()
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for block in &preset.0.blocks {
            let lines = block.lines.iter().map(|(line, _)| line);
            for expression in lines.chain(&block.end) {
                compile(expression.pattern()).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
}

#[test]
fn what_the_patterns_of_a_preset_require_was_found_out_when_the_program_was_built() {
    for name in Preset::names() {
        let preset = Preset::named(name).unwrap();
        let patterns = preset.0.patterns.iter().map(|pattern| &pattern.expression);
        let blocks = preset.0.blocks.iter().flat_map(|block| {
            let lines = block.lines.iter().map(|(line, _)| line);
            lines.chain(&block.end)
        });
        for expression in patterns.chain(blocks) {
            let pattern = expression.pattern();
            assert!(expression.built_in().is_some(), "{name}: {pattern}");
        }
    }
}

/// What the reader must find: every pattern is tried, in order.
fn first_of_all(preset: &Preset, line: &str) -> Option<usize> {
    let matches = |pattern: &Pattern| pattern.expression.regex().is_match(line);
    preset.0.patterns.iter().position(matches)
}

proptest! {
    /// The words that patterns require leave out no pattern.
    #[test]
    fn words_leave_out_no_pattern(
        name in proptest::sample::select(Preset::names()),
        example in any::<proptest::sample::Index>(),
        (cut, case, noise) in (0..200usize, any::<bool>(), "\\PC{0,20}"),
    ) {
        let preset = Preset::named(name).unwrap();
        let examples: Vec<&str> = (preset.0.specs.iter())
            .flat_map(|spec| &spec.examples)
            .flat_map(|example| example.line.lines())
            .collect();
        let line = examples[example.index(examples.len())];
        let line = super::super::clean::bounded(line, line.len().saturating_sub(cut));
        let line = super::super::clean::clean(line).into_owned();
        let line = if case { line.to_uppercase() } else { line };
        for line in [line.clone(), format!("{line}{noise}"), format!("{noise}{line}")] {
            let found = preset.classify(&line).map(|(index, ..)| index);
            prop_assert_eq!(found, first_of_all(&preset, &line), "{}: {:?}", name, line);
        }
    }
}

#[test]
fn the_coarse_filter_suits_the_log_service() {
    for name in Preset::names() {
        let preset = Preset::named(name).unwrap();
        let body = preset.coarse_filter().unwrap();
        assert!(body.len() < 5000, "{} bytes", body.len());
        assert!(!body.contains("(?<") && !body.contains("(?="), "{body}");
        for dull in [
            "",
            "GET /api/tasks 200 12ms",
            "[2026-11-24 03:39:09] production.INFO: User 7 logged in",
            "10.0.0.1 - - [24/Nov/2026:03:39:09 +0000] \"GET /index.php HTTP/1.1\" 200",
            " indented by one",
        ] {
            assert!(
                !filter(&Preset::named(name).unwrap()).is_match(dull),
                "{dull}"
            );
        }
    }
}

#[test]
fn own_patterns_come_first() {
    let preset = Preset::named("laravel").unwrap();
    let own = [
        PatternSpec::new(PatternKind::Banner, r"^tick$"),
        PatternSpec::new(PatternKind::Other, "No scheduled commands are ready"),
    ];
    let preset = preset.with_patterns(&own).unwrap();
    let lines = read(
        &preset,
        &[event("tick\nNo scheduled commands are ready to run.")],
    );
    assert_eq!(lines[0].kind, Kind::Heartbeat(Pulse::Banner));
    assert_eq!(lines[1].kind, Kind::Other);
    assert!(filter(&preset).is_match("tick"));
}

/// A user's pattern has no text of its own, and says that a trace follows: the record that repeats it
/// is the same failure all the same.
#[test]
fn an_own_error_with_a_trace_is_one_with_its_record() {
    let own = [PatternSpec {
        then: Some("trace".into()),
        ..PatternSpec::new(PatternKind::Error, "^worker gave up")
    }];
    let preset = Preset::named("laravel").unwrap();
    let preset = preset.with_patterns(&own).unwrap();
    let lines = read(
        &preset,
        &[event(
            "worker gave up on the queue\n#0 /a.php(9): a()\n\
             [2026-11-24 03:39:09] production.ERROR: worker gave up on the queue",
        )],
    );
    assert_eq!(lines.len(), 1, "{lines:?}");
}

/// Each word more is dearer to look for in each line.
#[test]
fn the_coarse_filter_holds_no_word_that_holds_another_one() {
    let own = ["big tick", "tick", "tock"].map(|text| PatternSpec::new(PatternKind::Banner, text));
    let preset = Preset::compile(own.to_vec(), BTreeMap::new(), Truths::default()).unwrap();
    assert_eq!(preset.coarse_filter(), Some("tick|tock"));
}

#[test]
fn an_own_word_hides_no_other_pattern() {
    let own = [
        PatternSpec::new(PatternKind::Banner, "php"),
        PatternSpec::new(PatternKind::Banner, "error"),
        PatternSpec::new(PatternKind::Banner, "scheduled command"),
    ];
    let preset = Preset::named("laravel").unwrap();
    let filter = filter(&preset.with_patterns(&own).unwrap());
    for specs in &preset.0.specs {
        for example in specs
            .examples
            .iter()
            .filter(|_| specs.kind != PatternKind::Other)
        {
            assert!(filter.is_match(&example.line), "{}", example.line);
        }
    }
}

#[test]
fn without_a_required_word_every_line_is_fetched() {
    let own = [PatternSpec::new(PatternKind::Banner, r"^[0-9]+$")];
    let preset = Preset::named("laravel")
        .unwrap()
        .with_patterns(&own)
        .unwrap();
    assert_eq!(preset.coarse_filter(), None);
}

#[test]
fn mistakes_are_explained() {
    let laravel = Preset::named("laravel").unwrap();
    let message = |spec: PatternSpec| {
        let error = laravel
            .with_patterns(std::slice::from_ref(&spec))
            .unwrap_err();
        error.to_string()
    };
    let spec = PatternSpec::new;
    let messages = [
        message(spec(PatternKind::Banner, "tick(")),
        message(spec(PatternKind::Banner, "(?=tick)")),
        message(spec(PatternKind::Banner, "(tick)*")),
        message(spec(PatternKind::Started, "Running (?<name>.+)")),
        message(spec(PatternKind::Started, "Running .+")),
        message(spec(PatternKind::Banner, r"(\w{100}){100}")),
        message(spec(PatternKind::Banner, &"tick".repeat(600))),
        message(PatternSpec {
            then: Some("bocks".into()),
            ..spec(PatternKind::Error, "boom")
        }),
        message(PatternSpec {
            coarse: Some("[".into()),
            ..spec(PatternKind::Error, "boom")
        }),
        message(PatternSpec {
            examples: vec![Example {
                line: "bang".into(),
                ..Example::default()
            }],
            ..spec(PatternKind::Error, "boom")
        }),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn names_are_unique_and_known() {
    let names: HashSet<_> = Preset::names().iter().collect();
    assert_eq!(names.len(), BUILT_IN.len());
    assert!(Preset::named("nosuch").is_none());
}

/// A user's pattern, and raw lines that match it.
fn pattern_with_lines() -> impl Strategy<Value = (String, Vec<String>)> {
    let atom = prop_oneof![
        "[A-Za-z]{1,8}",
        Just(" ".to_owned()),
        Just(r"\[".to_owned()),
        Just("[0-9]+".to_owned()),
        Just("[a-c]".to_owned()),
        Just("(?:up|down|sideways)".to_owned()),
        Just("(?:ready)?".to_owned()),
        Just("(?:tick )+".to_owned()),
        Just("(?i:Done|Fail)".to_owned()),
        Just("開始".to_owned()),
        Just("é".to_owned()),
    ];
    prop::collection::vec(atom, 1..8).prop_flat_map(|atoms| {
        let pattern = atoms.concat();
        let lines = prop::string::string_regex(&pattern).unwrap();
        (Just(pattern), prop::collection::vec(lines, 1..8))
    })
}

proptest! {
    #[test]
    fn the_coarse_filter_lets_every_match_through((pattern, lines) in pattern_with_lines()) {
        let own = [PatternSpec::new(PatternKind::Banner, format!("^{pattern}$"))];
        let Ok(preset) = Preset::compile(own.to_vec(), BTreeMap::new(), Truths::default()) else {
            return Ok(());
        };
        if let Some(body) = preset.coarse_filter() {
            let filter = Regex::new(&format!("(?i)({body})")).unwrap();
            for line in lines {
                prop_assert!(filter.is_match(&line), "{pattern:?} {body:?} {line:?}");
                // A terminal's colours stand at the edges of punctuation.
                let coloured = line.replace('[', "\x1b[1m[").replace(']', "]\x1b[22m");
                prop_assert!(filter.is_match(&coloured), "{pattern:?} {body:?} {coloured:?}");
            }
        }
    }
}
