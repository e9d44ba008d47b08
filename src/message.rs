//! A notification → what each reader is sent.

pub mod safe;

use serde_json::Value;

use crate::config::{Language, Scheduler};
use crate::plan::Notification;

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
    /// Plain text for mail and terminals.
    pub text: String,
    /// For Slack, in the custom-notification schema of Amazon Q Developer in chat applications.
    pub chat: Value,
    /// For machines.
    pub machine: Value,
}

/// Renders a notification for every reader.
pub fn render(notification: &Notification, context: &Context<'_>) -> Message {
    let _ = context;
    Message {
        notification: notification.clone(),
        subject: String::new(),
        text: String::new(),
        chat: Value::Null,
        machine: Value::Null,
    }
}
