//! How bad is it that the state directory fills up?
//!
//! Free bytes become a level. A level rises at once and falls by one step per look, so that a value
//! at a limit does not let the whole cluster flicker. What each level stops is decided in the plan,
//! not here.
//!
//! Manual: "Emergency Mode and its Resolution".

/// Levels of too little space, mild to hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// Nothing to worry about.
    Ample,
    /// Warning; who is already in emergency mode stays there.
    Exhausted,
    /// Logs of secondaries are given up.
    EmergencySecondary,
    /// Whatever fills the directory on behalf of others stops.
    EmergencyPrimary,
    /// Primaries stop logging: replication is lost, the application goes on.
    Jammed,
}

impl Space {
    /// 0 to 4, as published in `actual-<host>/emergency`.
    pub fn level(self) -> u8 {
        self as u8
    }

    fn below(self) -> Space {
        match self {
            Space::Ample | Space::Exhausted => Space::Ample,
            Space::EmergencySecondary => Space::Exhausted,
            Space::EmergencyPrimary => Space::EmergencySecondary,
            Space::Jammed => Space::EmergencyPrimary,
        }
    }
}

/// Bytes that must stay free, each on top of those of the harder levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Below this [`Space::Jammed`].
    pub jammed: u64,
    /// In addition: below the sum [`Space::EmergencyPrimary`].
    pub primary: u64,
    /// In addition: below the sum [`Space::EmergencySecondary`].
    pub secondary: u64,
    /// In addition: below the sum [`Space::Exhausted`].
    pub exhausted: u64,
}

impl Default for SpaceLimits {
    /// 2 GiB each, as `required_free_space_{1..4}_gb`.
    fn default() -> SpaceLimits {
        SpaceLimits {
            jammed: 2 << 30,
            primary: 2 << 30,
            secondary: 2 << 30,
            exhausted: 2 << 30,
        }
    }
}

impl SpaceLimits {
    /// The level of so many free bytes, without memory of the past.
    pub fn level_of(&self, rest: u64) -> Space {
        let jammed = self.jammed;
        let primary = jammed.saturating_add(self.primary);
        let secondary = primary.saturating_add(self.secondary);
        let exhausted = secondary.saturating_add(self.exhausted);
        match rest {
            r if r < jammed => Space::Jammed,
            r if r < primary => Space::EmergencyPrimary,
            r if r < secondary => Space::EmergencySecondary,
            r if r < exhausted => Space::Exhausted,
            _ => Space::Ample,
        }
    }

    /// All reserves together: what has to be subtracted from free or total bytes before they are
    /// shown as usable.
    pub fn sum(&self) -> u64 {
        self.jammed
            .saturating_add(self.primary)
            .saturating_add(self.secondary)
            .saturating_add(self.exhausted)
    }
}

/// Remembers the level between two looks.
#[derive(Debug, Clone)]
pub struct SpaceGauge {
    limits: SpaceLimits,
    now: Space,
}

impl SpaceGauge {
    /// Begins with [`Space::Ample`].
    pub fn new(limits: SpaceLimits) -> SpaceGauge {
        SpaceGauge {
            limits,
            now: Space::Ample,
        }
    }

    /// The level after looking again: up at once, down by one step. `free` are the bytes of the
    /// file system, `buffered` those that wait in memory and will still be logged.
    pub fn look(&mut self, free: u64, buffered: u64) -> Space {
        let seen = self.limits.level_of(free.saturating_sub(buffered));
        self.now = if seen >= self.now {
            seen
        } else {
            self.now.below().max(seen)
        };
        self.now
    }

    /// The level of the last look.
    pub fn now(&self) -> Space {
        self.now
    }

    /// The limits in force.
    pub fn limits(&self) -> &SpaceLimits {
        &self.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn each_level_begins_where_the_sum_of_the_harder_reserves_ends() {
        let limits = SpaceLimits::default();
        let levels: Vec<_> = [0, 2, 4, 6, 8]
            .iter()
            .map(|g| limits.level_of(g * GIB).level())
            .collect();
        assert_eq!(levels, [4, 3, 2, 1, 0]);
        assert_eq!(limits.level_of(2 * GIB - 1), Space::Jammed);
        assert_eq!(limits.sum(), 8 * GIB);
    }

    #[test]
    fn the_level_rises_at_once_and_falls_by_one_step_per_look() {
        let mut gauge = SpaceGauge::new(SpaceLimits::default());
        let looks = [100, 1, 100, 100, 100, 3, 100, 100, 100, 100];
        let levels: Vec<_> = looks
            .iter()
            .map(|g| gauge.look(g * GIB, 0).level())
            .collect();
        assert_eq!(levels, [0, 4, 3, 2, 1, 3, 2, 1, 0, 0]);
    }

    #[test]
    fn what_waits_in_memory_counts_as_written() {
        let mut gauge = SpaceGauge::new(SpaceLimits::default());
        assert_eq!(gauge.look(9 * GIB, 2 * GIB), Space::Exhausted);
        assert_eq!(gauge.look(9 * GIB, 20 * GIB), Space::Jammed);
    }
}
