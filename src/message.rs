//! A notification → what each reader is sent.
//!
//! All texts are data: `message/en.toml` and `message/ja.toml` say everything once per
//! language, `message/steps.toml` and `message/commands.toml` what to do next, the `.j2` files
//! lay it out for mail and chat. What comes from logs and from AWS passes [`safe`] first.

mod chat;
mod console;
mod email;
mod machine;
pub mod safe;
mod steps;
mod view;
mod words;

use serde_json::Value;

use crate::cause::Evidence;
use crate::condition::Fact;
use crate::config::{Language, Scheduler};
use crate::plan::{Handling, Notification};

/// The longest subject that SNS takes, in characters.
const MAX_SUBJECT: usize = 99;

/// What the texts of a message need to know besides the notification.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The scheduler; none for a message about the watchdog's own configuration.
    pub scheduler: Option<&'a Scheduler>,
    /// The readers' language.
    pub language: Language,
    /// Whether e-mail addresses in what others printed are hidden.
    pub hide_emails: bool,
    /// The AWS region, for console links and commands; empty if unknown.
    pub region: &'a str,
}

/// A message as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it was made from.
    pub notification: Notification,
    /// At most 99 ASCII characters without control characters (SNS's rule for subjects).
    pub subject: String,
    /// Plain text for mail and terminals; at most 16 KiB.
    pub text: String,
    /// For Slack, in the custom-notification schema of Amazon Q Developer in chat applications.
    pub chat: Value,
    /// For machines; `schema/notification.schema.json` describes it.
    pub machine: Value,
}

/// Renders a notification for every reader.
pub fn render(notification: &Notification, context: &Context<'_>) -> Message {
    let hidden = context.hide_emails.then(|| without_emails(notification));
    let notification = hidden.as_ref().unwrap_or(notification);
    let view = view::View::new(notification, context);
    let subject = safe::ascii(&view.subject);
    let subject = subject[..subject.floor_char_boundary(MAX_SUBJECT)].to_owned();
    Message {
        notification: notification.clone(),
        text: email::render(&view),
        chat: chat::render(&view, notification),
        machine: machine::render(notification, context, &subject),
        subject,
    }
}

/// The notification without e-mail addresses in what logs, ECS and AWS's errors say.
fn without_emails(notification: &Notification) -> Notification {
    let hide = |text: &String| safe::hide_emails(text);
    let mut hidden = notification.clone();
    hidden.subject = hidden.subject.as_ref().map(hide);
    // Facts are made for JSON, so none of them is lost on the way there and back.
    let hide_fact = |fact: &Fact| {
        let fields = serde_json::to_value(fact).ok()?;
        serde_json::from_str(&safe::each_text(fields, &safe::hide_emails).to_string()).ok()
    };
    for cause in &mut hidden.causes {
        let evidence = cause.evidence.iter().filter_map(|evidence| match evidence {
            Evidence::Line(line) => Some(Evidence::Line(hide(line))),
            Evidence::Fact(fact) => hide_fact(fact).map(Evidence::Fact),
        });
        cause.evidence = evidence.collect();
    }
    hidden.proof = hidden.proof.iter().filter_map(hide_fact).collect();
    if let Handling::CureFailed { error, .. } = &mut hidden.handling {
        *error = error.as_ref().map(hide);
    }
    hidden
}
