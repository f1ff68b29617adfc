//! Calls that fail by chance, the same ones each time.

/// How often calls on leased regions fail, in calls of a thousand, and the seed that chooses which.
///
/// A tasklet's faults follow from the seed, from how many tasklets began before it in its fabric, and from its calls so far:
/// tasklets that run in the same order fail alike each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct MockFaults {
    pub seed: u64,
    /// Calls that answer `Disconnected` and changed nothing.
    pub refused_of_1000: u64,
    /// Calls that answer `Disconnected` after they did what they were asked.
    pub answer_lost_of_1000: u64,
    /// Calls of each tasklet after which its link is cut: from then on all answer `Disconnected`, and change nothing. So a
    /// test stops a tasklet between any two steps.
    pub cut_after_calls: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Refused,
    AnswerLost,
}

impl MockFaults {
    /// What becomes of this call of this tasklet.
    pub(super) fn of_call(&self, tasklet: u64, call: u64) -> Option<Fault> {
        if self.cut_after_calls.is_some_and(|last| call > last) {
            return Some(Fault::Refused);
        }
        let chance = mixed(self.seed ^ mixed(tasklet) ^ mixed(call).rotate_left(32)) % 1000;
        if chance < self.refused_of_1000 {
            Some(Fault::Refused)
        } else if chance < self.refused_of_1000 + self.answer_lost_of_1000 {
            Some(Fault::AnswerLost)
        } else {
            None
        }
    }
}

/// A number without a pattern, of one with a pattern: the last steps of SplitMix64.
pub(super) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
