//! One of several parts of the schedulers, each looked at by a wake-up of its own.

use std::fmt;

use crate::hash::hash;

/// One part of several. Each scheduler belongs to exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    of: u32,
}

impl Shard {
    /// The most parts: each may start one query a second at least, and AWS allows an account ten.
    pub const MOST: u32 = 10;

    /// The part `index`, from 0, of so many; none if there is no such part.
    pub fn new(index: u32, of: u32) -> Option<Self> {
        ((1..=Self::MOST).contains(&of) && index < of).then_some(Self { index, of })
    }

    /// Which part, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Of how many.
    pub fn of(self) -> u32 {
        self.of
    }

    /// Whether a scheduler of that name belongs to this part: the name's hash, divided by the number of
    /// parts, leaves the index.
    pub fn holds(self, name: &str) -> bool {
        hash(name) % u64::from(self.of) == u64::from(self.index)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_are_one_to_ten_parts() {
        assert_eq!(Shard::new(0, 0), None);
        assert_eq!(Shard::new(3, 3), None);
        assert_eq!(Shard::new(0, 11), None);
        assert_eq!(Shard::new(2, 3).unwrap().to_string(), "2 of 3");
    }

    #[test]
    fn parts_are_of_about_the_same_size() {
        for of in 2..=Shard::MOST {
            for index in 0..of {
                let shard = Shard::new(index, of).unwrap();
                let held = (0..1_000 * of).filter(|n| shard.holds(&format!("app-{n}-production")));
                let held = held.count();
                assert!((900..1_100).contains(&held), "{shard}: {held}");
            }
        }
    }

    proptest! {
        #[test]
        fn each_name_belongs_to_exactly_one_part(name in any::<String>(), of in 1..=Shard::MOST) {
            let holds = (0..of).filter(|index| Shard::new(*index, of).unwrap().holds(&name));
            prop_assert_eq!(holds.count(), 1);
        }
    }
}
