//! What passed the NICs: the sentences of every output for people.

use overlay_trace_format::{HopName, NicCount, NicDirection, NicUnit};

use super::units::count;

/// `eth0: 42,431 received by the driver, 42,431 recorded`.
pub fn sentence(nic: &HopName, counts: &NicCount) -> String {
    let what = match counts.direction {
        NicDirection::Received => "received",
        NicDirection::Sent => "sent",
    };
    let unit = match counts.unit {
        NicUnit::Packets => "",
        NicUnit::Segments => " segments",
    };
    let mut text = format!(
        "{}: {}{unit} {what} by the driver, {} recorded",
        place(nic),
        count(counts.by_driver),
        count(counts.recorded)
    );
    for (number, cause) in counts.causes().into_iter().filter(|(number, _)| *number > 0) {
        text += &format!(", {} {cause}", count(number));
    }
    match counts.unexplained() {
        0 => text,
        left @ 1.. => text + &format!(", {} unexplained", count(left as u64)),
        more => text + &format!(", {} more than the driver counts", count(more.unsigned_abs())),
    }
}

/// What a gap means; `None` where there is none.
pub fn finding(nic: &HopName, counts: &NicCount) -> Option<String> {
    if !counts.has_gap() {
        return None;
    }
    let left = counts.unexplained();
    let place = place(nic);
    Some(match counts.direction {
        _ if left < 0 => format!(
            "more packets were seen at {place} than its driver counts: it may count otherwise than by {}.",
            match counts.unit {
                NicUnit::Packets => "packet",
                NicUnit::Segments => "segment",
            }
        ),
        NicDirection::Received => format!(
            "{} packets that the driver of {place} received passed no probe: an XDP program or a hardware offload may \
             have taken them.",
            count(left as u64)
        ),
        NicDirection::Sent => format!(
            "{} packets that the driver of {place} sent passed no probe: AF_XDP sockets, XDP programs that redirect, and \
             packet sockets that bypass the qdisc hand them to the driver directly.",
            count(left as u64)
        ),
    })
}

fn place(nic: &HopName) -> String {
    if nic.netns.is_empty() || nic.netns == "host" {
        nic.device.clone()
    } else {
        format!("{} ({})", nic.device, nic.netns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eth0() -> HopName {
        HopName { device: "eth0".into(), netns: "host".into(), ..HopName::default() }
    }

    #[test]
    fn what_is_not_recorded_is_told_by_cause() {
        let all = NicCount { by_driver: 42_431, recorded: 42_431, ..NicCount::default() };
        assert_eq!(sentence(&eth0(), &all), "eth0: 42,431 received by the driver, 42,431 recorded");
        assert_eq!(finding(&eth0(), &all), None);
        let some = NicCount {
            direction: NicDirection::Sent,
            unit: NicUnit::Segments,
            by_driver: 1000,
            recorded: 900,
            not_ip: 7,
            ..NicCount::default()
        };
        assert_eq!(
            sentence(&HopName { netns: "pod".into(), ..eth0() }, &some),
            "eth0 (pod): 1,000 segments sent by the driver, 900 recorded, 7 not IP, 93 unexplained"
        );
        assert_eq!(finding(&eth0(), &some), None);
    }

    #[test]
    fn a_gap_is_a_finding() {
        let gap = |direction, by_driver, recorded| {
            finding(&eth0(), &NicCount { direction, by_driver, recorded, ..NicCount::default() }).unwrap()
        };
        assert!(
            gap(NicDirection::Received, 42_431, 2_105)
                .starts_with("40,326 packets that the driver of eth0 received")
        );
        assert!(gap(NicDirection::Sent, 5_000, 0).contains("AF_XDP"));
        assert!(gap(NicDirection::Sent, 5_000, 6_000).contains("more packets were seen"));
    }
}
