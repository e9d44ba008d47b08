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

use crate::config::{Language, Scheduler};
use crate::plan::Notification;

/// The longest subject that SNS takes, in characters.
const MAX_SUBJECT: usize = 99;

/// What the texts of a message need to know besides the notification.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The scheduler; none for a message about the watchdog's own configuration.
    pub scheduler: Option<&'a Scheduler>,
    /// The readers' language.
    pub language: Language,
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
