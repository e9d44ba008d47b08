//! Which schedulers are down, as far as this pass knows: for the gate against storms. What they share may
//! have gone down a moment ago, so a restart waits until the others have been judged, too.

use std::cell::RefCell;
use std::collections::HashMap;

use tokio::sync::Notify;

use crate::snapshot::Fleet;

/// How the schedulers of one pass fare.
#[derive(Debug, Default)]
pub struct Tally<'a> {
    standings: RefCell<HashMap<&'a str, Standing>>,
    /// How many others there are: those that are not looked at, and those whose state is not known.
    others: usize,
    /// How many of these count as down.
    others_down: usize,
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    is_down: bool,
    is_judged: bool,
}

impl<'a> Tally<'a> {
    /// As the schedulers fared when the pass began, by name; and how many others there are and are down.
    pub fn new(
        loaded: impl Iterator<Item = (&'a str, bool)>,
        others: usize,
        others_down: usize,
    ) -> Self {
        let standing = |is_down| Standing {
            is_down,
            is_judged: false,
        };
        Self {
            standings: RefCell::new(loaded.map(|(name, down)| (name, standing(down))).collect()),
            others,
            others_down,
            changed: Notify::new(),
        }
    }

    /// The fleet as a scheduler sees it that is about to be restarted: it counts as down itself.
    pub fn fleet_of(&self, scheduler: &str) -> Fleet {
        let standings = self.standings.borrow();
        let down = standings
            .iter()
            .filter(|(name, standing)| standing.is_down || **name == scheduler);
        Fleet {
            watched: standings.len() + self.others,
            firing: down.count() + self.others_down,
        }
    }

    /// A scheduler was judged.
    pub fn judged(&self, scheduler: &str, is_down: bool) {
        if let Some(standing) = self.standings.borrow_mut().get_mut(scheduler) {
            *standing = Standing {
                is_down,
                is_judged: true,
            };
        }
        self.changed.notify_waiters();
    }

    /// A scheduler's turn is over, judged or not.
    pub fn done(&self, scheduler: &str) {
        if let Some(standing) = self.standings.borrow_mut().get_mut(scheduler) {
            standing.is_judged = true;
        }
        self.changed.notify_waiters();
    }

    /// Ends when no scheduler is left to be judged.
    pub async fn all_judged(&self) {
        while self.standings.borrow().values().any(|s| !s.is_judged) {
            self.changed.notified().await;
        }
    }
}
