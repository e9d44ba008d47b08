//! For Slack, by way of Amazon Q Developer in chat applications.
//!
//! A message of another shape than its schema is dropped without a word, and so, as far as is
//! known, is one that is too long. The limits here stay on the safe side.

use std::fmt::Write as _;

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Deserialize;
use serde_json::{Value, json};

use super::email::lay_out;
use super::view::View;
use super::{safe, words};
use crate::condition::Severity;
use crate::plan::{Notification, Occasion};

/// The longest title and summary, in characters.
const MAX_TITLE: usize = 250;
/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 8_000;
/// The longest step, in characters. A command that is longer stands in the description.
const MAX_STEP: usize = 350;
/// The longest keyword, in characters.
const MAX_KEYWORD: usize = 75;

/// The custom notification. Messages of one incident make one thread.
pub(super) fn render(view: &View, notification: &Notification) -> Value {
    let icon = match notification.severity {
        _ if notification.occasion == Occasion::Test => "🔔",
        _ if view.ended => "🟢",
        Severity::Critical => "🔴",
        Severity::Warning => "🟠",
    };
    let what = safe::defuse(&view.head.what);
    let name = safe::defuse(&safe::line(&notification.scheduler));
    let keywords: Vec<String> = [
        name.as_str(),
        notification.condition.id(),
        notification.severity.id(),
        notification.occasion.id(),
    ]
    .into_iter()
    .filter(|word| !word.is_empty())
    .map(|word| fit(word, MAX_KEYWORD))
    .collect();
    let mut context = serde_json::Map::new();
    for (key, value) in [
        ("scheduler", name.as_str()),
        ("condition", notification.condition.id()),
        ("severity", notification.severity.id()),
        ("reason", notification.occasion.id()),
        ("cause", &safe::defuse(&safe::line(notification.cause_id()))),
        ("since", &notification.since.to_string()),
        ("message", &safe::defuse(&view.id)),
    ] {
        context.insert(key.to_owned(), json!(value));
    }
    json!({
        "version": "1.0",
        "source": "custom",
        "id": safe::defuse(&view.id),
        "content": {
            "textType": "client-markdown",
            "title": fit(&format!("{icon} {what}"), MAX_TITLE),
            "description": description(view),
            "nextSteps": steps(view),
            "keywords": keywords,
        },
        "metadata": {
            "threadId": safe::defuse(&view.incident),
            "summary": fit(&what, MAX_TITLE),
            "eventType": format!("scheduler-watchdog.{}", notification.condition.id()),
            "relatedResources": view.resources.iter().map(|text| safe::defuse(text)).collect::<Vec<_>>(),
            "additionalContext": context,
        },
    })
}

/// The layout, with as much detail as fits.
fn description(view: &View) -> String {
    let env = environment();
    let text = |detail| {
        let mut text = lay_out(&env, include_str!("chat.j2"), view, detail);
        if detail == 2 {
            long_commands(view, &mut text);
        }
        text
    };
    let fits = ([2, 1].into_iter().map(text)).find(|text| text.chars().count() <= MAX_DESCRIPTION);
    fit(fits.unwrap_or_else(|| text(0)).trim_end(), MAX_DESCRIPTION)
}

/// Commands that are too long for their step.
fn long_commands(view: &View, text: &mut String) {
    for (index, step) in view.steps.iter().enumerate() {
        if let Some(command) = step.command.as_deref().filter(|_| !fits_in_step(step)) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n({}) {}\n", index + 1, safe::code(command));
        }
    }
}

fn steps(view: &View) -> Vec<String> {
    (view.steps.iter().enumerate())
        .map(|(index, step)| match &step.command {
            Some(_) if !fits_in_step(step) => fit(
                &format!("{} → ({})", safe::defuse(&step.say), index + 1),
                MAX_STEP,
            ),
            _ => in_one(step),
        })
        .collect()
}

fn fits_in_step(step: &super::steps::Shown) -> bool {
    in_one(step).chars().count() <= MAX_STEP
}

fn in_one(step: &super::steps::Shown) -> String {
    let say = safe::defuse(&step.say);
    match &step.command {
        Some(command) => format!("{say} {}", safe::code(command)),
        None => say,
    }
}

/// Cut by characters, and not within an entity, which would become text.
fn fit(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let cut: String = text.chars().take(most - 1).collect();
    let whole = match cut.rfind(['&', '<']) {
        Some(start) if !cut[start..].contains([';', '>']) => &cut[..start],
        _ => &cut,
    };
    format!("{whole}…")
}

#[derive(Deserialize)]
struct Link {
    label: String,
    url: String,
}

/// Everything that a layout prints is defused, unless a filter here made it.
fn environment() -> Environment<'static> {
    let mut env = words::environment();
    env.set_formatter(|out, state, value| {
        if value.is_safe() {
            return minijinja::escape_formatter(out, state, value);
        }
        let text = value.to_string();
        out.write_str(&safe::defuse(&text))
            .map_err(minijinja::Error::from)
    });
    let raw = minijinja::Value::from_safe_string;
    env.add_filter("code", move |text: String| raw(safe::code(&text)));
    env.add_filter("link", move |link: Serde<Link>| {
        raw(format!(
            "<{}|{}>",
            safe::escape(&link.url),
            safe::defuse(&link.label)
        ))
    });
    env
}
