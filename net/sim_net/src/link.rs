//! What lies between two hosts: delay, chance, a queue in front of a slow wire.

use crate::frame::Fate;
use crate::network_file;
use crate::random::Random;

/// Nanoseconds since the start of the simulation.
pub(crate) type Time = u64;

/// A link, with a way for each direction.
pub(crate) struct Link {
    pub(crate) settings: network_file::Link,
    ways: [Way; 2],
}

struct Way {
    random: Random,
    /// When the wire has sent what was queued for it.
    free_at: Time,
    /// When the last packet that kept its place arrives.
    last_arrival: Time,
}

/// What becomes of one packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) fate: Fate,
    /// When it arrives, if it does, and when its copy does.
    pub(crate) arrivals: [Option<Time>; 2],
}

impl Link {
    pub(crate) fn new(settings: network_file::Link, seed: u64, number: usize) -> Self {
        let way =
            |direction| Way { random: Random::new(seed, 2 * number as u64 + direction), free_at: 0, last_arrival: 0 };
        Self { settings, ways: [way(0), way(1)] }
    }

    /// Sends a packet of `length` bytes in one of the two directions.
    pub(crate) fn send(&mut self, now: Time, direction: usize, length: usize) -> Verdict {
        let settings = &self.settings;
        let way = &mut self.ways[direction];
        let lost = |fate| Verdict { fate, arrivals: [None, None] };
        if settings.down {
            return lost(Fate::WireDown);
        }
        if length > settings.mtu {
            return lost(Fate::TooLong);
        }
        let mut sent = now;
        if let Some(bandwidth) = settings.bandwidth {
            let start = way.free_at.max(now);
            let waiting = u128::from(start - now) * u128::from(bandwidth) / 8_000_000_000;
            // The first packet finds the wire free, however slow it is.
            if waiting > 0 && waiting + length as u128 > u128::from(settings.queue) {
                return lost(Fate::Overflows);
            }
            sent = start + (length as u128 * 8_000_000_000 / u128::from(bandwidth)) as Time;
            way.free_at = sent;
        }
        // A lost packet has used the wire all the same.
        if way.random.happens(settings.loss) {
            return lost(Fate::Lost);
        }
        let jitter = nanoseconds(settings.jitter);
        let earliest = sent + nanoseconds(settings.latency);
        let arrival = earliest + way.random.up_to(jitter);
        if way.random.happens(settings.reorder) {
            // Its place is not kept: whatever is sent from now on may overtake it.
            let late = arrival + nanoseconds(settings.reorder_delay);
            return Verdict { fate: Fate::ArrivesLate, arrivals: [Some(late), None] };
        }
        // Jitter alone changes no order.
        let arrival = arrival.max(way.last_arrival);
        way.last_arrival = arrival;
        if way.random.happens(settings.duplicate) {
            let copy = arrival + way.random.up_to(jitter);
            return Verdict { fate: Fate::ArrivesTwice, arrivals: [Some(arrival), Some(copy)] };
        }
        Verdict { fate: Fate::Arrives, arrivals: [Some(arrival), None] }
    }
}

/// `duration` in the simulation's unit.
pub(crate) fn nanoseconds(duration: std::time::Duration) -> Time {
    Time::try_from(duration.as_nanos()).unwrap_or(Time::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn link(change: impl FnOnce(&mut network_file::Link)) -> Link {
        let mut settings = network_file::Link {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(10),
            bandwidth: None,
            queue: 3000,
            mtu: 1500,
            down: false,
        };
        change(&mut settings);
        Link::new(settings, 7, 0)
    }

    fn arrival(link: &mut Link, now: Time, length: usize) -> Time {
        let verdict = link.send(now, 0, length);
        assert_eq!(verdict.fate, Fate::Arrives);
        verdict.arrivals[0].unwrap()
    }

    #[test]
    fn latency_is_all_that_an_ideal_link_has() {
        assert_eq!(arrival(&mut link(|_| {}), 5, 1500), 1_000_005);
    }

    #[test]
    fn bandwidth_spaces_packets_and_its_queue_overflows() {
        let mut slow = link(|link| link.bandwidth = Some(8_000_000));
        // A byte per microsecond: 1000 bytes take a millisecond.
        assert_eq!(arrival(&mut slow, 0, 1000), 2_000_000);
        assert_eq!(arrival(&mut slow, 0, 1000), 3_000_000);
        assert_eq!(arrival(&mut slow, 0, 1000), 4_000_000);
        assert_eq!(slow.send(0, 0, 1000).fate, Fate::Overflows);
        // The other direction has a wire of its own.
        assert_eq!(slow.send(0, 1, 1000).arrivals[0], Some(2_000_000));
        assert_eq!(arrival(&mut slow, 3_000_000, 1000), 5_000_000);
    }

    #[test]
    fn jitter_delays_but_keeps_the_order() {
        let mut shaky = link(|link| link.jitter = Duration::from_millis(5));
        let arrivals: Vec<Time> = (0..100).map(|now| arrival(&mut shaky, now * 1000, 100)).collect();
        assert!(arrivals.is_sorted());
        let delays: Vec<Time> = (0..100).map(|now| arrivals[now] - now as Time * 1000).collect();
        assert!(delays.iter().all(|delay| (1_000_000..=6_000_000).contains(delay)));
        assert!(delays.iter().min() != delays.iter().max());
    }

    #[test]
    fn late_packet_is_overtaken() {
        let mut odd = link(|link| link.reorder = 1.0);
        let late = odd.send(0, 0, 100);
        assert_eq!((late.fate, late.arrivals[0]), (Fate::ArrivesLate, Some(11_000_000)));
        odd.settings.reorder = 0.0;
        assert_eq!(arrival(&mut odd, 1, 100), 1_000_001);
    }

    #[test]
    fn chances_come_true_and_repeat_with_the_seed() {
        let send = || {
            let mut bad = link(|link| (link.loss, link.duplicate) = (0.5, 0.5));
            (0..1000).map(|now| bad.send(now, 0, 100)).collect::<Vec<_>>()
        };
        let verdicts = send();
        let count = |fate| verdicts.iter().filter(|verdict| verdict.fate == fate).count();
        assert!((400..600).contains(&count(Fate::Lost)), "{}", count(Fate::Lost));
        assert!((150..350).contains(&count(Fate::ArrivesTwice)), "{}", count(Fate::ArrivesTwice));
        assert_eq!(verdicts, send());
    }

    #[test]
    fn what_is_too_long_or_finds_the_link_down_is_lost() {
        assert_eq!(link(|_| {}).send(0, 0, 1501).fate, Fate::TooLong);
        assert_eq!(link(|link| link.down = true).send(0, 0, 10).fate, Fate::WireDown);
    }
}
