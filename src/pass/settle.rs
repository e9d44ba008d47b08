//! What follows the claim: messages are sent, and what was done is written down.

use crate::config::{Alerts, Scheduler};
use crate::message::{self, Context};
use crate::plan::Notification;
use crate::remedy;
use crate::snapshot::CallError;
use crate::state::State;
use crate::world::{StoreError, Version, World};

/// Tries to write down what was done while other passes write, too.
const TRIES: u32 = 5;

/// What was done after the claim.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Done {
    pub restart: Option<Result<Option<String>, CallError>>,
    pub delivered: Vec<String>,
}

impl Done {
    fn write_into(&self, state: &mut State) {
        state
            .outbox
            .retain(|waiting| !self.delivered.contains(&waiting.id));
        if let Some(answer) = &self.restart {
            remedy::settle(state, answer);
        }
    }
}

/// Writes down what was done. Should another pass have written meanwhile, it is written into
/// that pass's state.
pub(super) async fn settle<W: World>(
    world: &W,
    name: &str,
    state: &mut State,
    mut version: Version,
    done: &Done,
) -> Result<(), StoreError> {
    for _ in 0..TRIES {
        done.write_into(state);
        match world.save(name, state, version).await {
            Err(StoreError::Conflict) => (*state, version) = world.load(name).await?,
            answer => return answer.map(|_| ()),
        }
    }
    Err(StoreError::Conflict)
}

/// Renders a message of the outbox and sends it.
pub(super) async fn deliver<W: World>(
    world: &W,
    alerts: &Alerts,
    scheduler: Option<&Scheduler>,
    notification: &Notification,
) -> Result<(), CallError> {
    let context = Context {
        scheduler,
        language: alerts.language,
        hide_emails: alerts.hide_emails,
        region: world.region(),
    };
    world
        .publish(&message::render(notification, &context))
        .await
}
