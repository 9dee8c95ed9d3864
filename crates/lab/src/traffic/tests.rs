use std::net::SocketAddr;
use std::time::Duration;

use super::pace::{Schedule, send_all};
use super::stream::Arrived;
use super::tally::{Seen, Tally};
use super::wire::Header;
use super::*;

fn local(host: &str) -> Server {
    Server::start(SocketAddr::new(host.parse().unwrap(), 0)).unwrap()
}

fn short(kind: Kind, protocol: Protocol) -> Spec {
    // A time limit that a busy machine does not reach either.
    let patience = Duration::from_secs(20);
    Spec {
        rate: 2000.0,
        count: Some(100),
        duration: patience,
        timeout: patience,
        ..Spec::new(kind, protocol)
    }
}

#[test]
fn schedule_does_not_drift() {
    let schedule = Schedule { start_ns: 1_000, rate: 3.0, total: 10, patience_ns: 0 };
    assert_eq!(schedule.due_ns(0), 1_000);
    assert_eq!(schedule.due_ns(1), 1_000 + 333_333_333);
    // A million periods of a third of a second: the rounding of one does not add up.
    assert_eq!(schedule.due_ns(3_000_000), 1_000 + 1_000_000_000_000_000);
}

#[test]
fn a_late_sender_sends_everything_that_was_due_and_says_how_late() {
    let start_ns = clock::now_ns() - 50_000_000;
    let schedule = Schedule { start_ns, rate: 1e6, total: 1_000, patience_ns: 1 << 40 };
    let mut dues = Vec::new();
    let sent = send_all(&schedule, &Stop::new(), |number, due_ns| {
        dues.push((number, due_ns - start_ns));
        Ok(())
    })
    .unwrap();
    assert_eq!(sent.count, 1_000);
    assert_eq!(dues.last(), Some(&(999, 999_000)));
    // The first was due 50 ms ago, the last 49 ms: no one's lateness can be less.
    assert!(sent.lateness.min() >= 48_900_000, "{}", sent.lateness.min());
}

#[test]
fn a_sender_that_cannot_keep_up_gives_up_and_says_so() {
    // Everything was due long ago: the schedule's end and the patience after it are past.
    let start_ns = clock::now_ns() - 1_000_000_000;
    let schedule = Schedule { start_ns, rate: 1e6, total: 1_000, patience_ns: 1_000_000 };
    let sent = send_all(&schedule, &Stop::new(), |_, _| panic!("nothing is to be sent")).unwrap();
    assert_eq!((sent.count, sent.unsent), (0, 1_000));
}

#[test]
fn a_stopped_sender_sends_nothing_more() {
    let (stop, mut count) = (Stop::new(), 0);
    let schedule = Schedule { start_ns: clock::now_ns(), rate: 1e6, total: 1_000, patience_ns: 1 << 40 };
    let sent = send_all(&schedule, &stop, |number, _| {
        count += 1;
        if number == 9 {
            stop.set();
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((sent.count, sent.unsent, count), (10, 0, 10));
}

#[test]
fn total_is_what_fits_in_the_duration_or_the_count() {
    let spec =
        Spec { rate: 10.0, duration: Duration::from_millis(950), ..Spec::new(Kind::Rr, Protocol::Udp) };
    assert_eq!(spec.total(), 10);
    assert_eq!(Spec { count: Some(3), ..spec.clone() }.total(), 3);
    assert_eq!(Spec { count: Some(30), ..spec }.total(), 10);
}

#[test]
fn requests_are_dealt_in_turn() {
    let lanes = [0, 1, 2].map(|index| tcp::Lane { index, of: 3 });
    assert_eq!(lanes.map(|lane| lane.share(7)), [3, 2, 2]);
    assert_eq!(lanes.map(|lane| lane.number(2)), [6, 7, 8]);
}

#[test]
fn percentiles_are_of_the_recorded_values() {
    let mut histogram = report::histogram();
    for value in 1..=100_000_u64 {
        histogram.record(value * 1_000).unwrap();
    }
    let found = Distribution::of(&histogram);
    assert_eq!(found.count, 100_000);
    for (value, expected) in [
        (found.p50, 5e7),
        (found.p90, 9e7),
        (found.p99, 9.9e7),
        (found.p999, 9.99e7),
        (found.p9999, 9.999e7),
        (found.p99999, 9.9999e7),
        (found.max, 1e8),
        (found.mean as u64, 5e7),
    ] {
        assert!((value as f64 / expected - 1.0).abs() < 1e-3, "{value} for {expected}");
    }
}

#[test]
fn answers_may_be_doubled_and_reordered() {
    let mut tally = Tally::new();
    for number in [0, 2, 1, 2, 70, 3] {
        tally.answered_any_order(number, clock::now_ns(), 100);
    }
    assert_eq!((tally.received, tally.duplicates, tally.out_of_order, tally.bytes), (5, 1, 2, 500));
    let sum = Tally::new().add(tally);
    assert_eq!((sum.received, sum.latency.len()), (5, 5));
}

#[test]
fn a_number_is_new_once() {
    let mut seen = Seen::default();
    assert!([0, 63, 64, 1_000].into_iter().all(|number| seen.insert(number)));
    assert!(![0, 63, 64, 1_000].into_iter().any(|number| seen.insert(number)));
    assert!(seen.insert(999));
}

#[test]
fn jitter_is_that_of_rfc_3550() {
    let mut arrived = Arrived::default();
    // Transit times of 5, 5 and 21 µs: differences of 0 and 16 µs, and the latter counts a sixteenth.
    for (number, sent, received) in [(0, 0, 5_000), (1, 100_000, 105_000), (2, 200_000, 221_000)] {
        arrived.count(&Header { session: 1, number, time_ns: sent }, received, 50);
    }
    assert_eq!(arrived.jitter_ns, 1_000.0);
    assert_eq!((arrived.packets, arrived.bytes, arrived.duration_ns), (3, 150, 216_000));
    // Clocks of two machines: a constant offset changes nothing.
    arrived.count(&Header { session: 1, number: 3, time_ns: 300_000 }, 321_000, 50);
    assert_eq!(arrived.jitter_ns, 937.5);
}

#[test]
fn header_survives_the_wire() {
    let header = Header { session: u64::MAX, number: 7, time_ns: 1 << 40 };
    let mut datagram = [0; 30];
    header.write(&mut datagram);
    assert_eq!(Header::read(&datagram), Some(header));
    assert_eq!(Header::read(&datagram[..23]), None);
}

#[test]
fn checksum_is_that_of_rfc_1071() {
    assert_eq!(icmp::checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0x220d);
    assert_eq!(icmp::checksum(&[0xff]), 0x00ff);
}

#[test]
fn sizes_and_rates_are_read() {
    assert_eq!("350B".parse::<Size>().unwrap(), Size::B350);
    assert_eq!("4KB".parse::<Size>().unwrap(), Size::KB4);
    assert_eq!("64/1000".parse::<Size>().unwrap(), Size { request: 64, answer: 1000 });
    assert!("big".parse::<Size>().is_err());
    assert_eq!(parse_bit_rate("2.5G").unwrap(), 2.5e9);
    assert_eq!(parse_bit_rate("64").unwrap(), 64.0);
    for wrong in ["", "M", "-1k", "5X", "é"] {
        assert!(parse_bit_rate(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn plans_are_read() {
    let spec = parse_plan("tcp-rr:rate=50,size=4KB,duration=3s,connections=2", Spec::new).unwrap();
    assert_eq!((spec.name().as_str(), spec.rate, spec.connections), ("tcp-rr", 50.0, 2));
    assert_eq!((spec.size, spec.duration), (Size::KB4, Duration::from_secs(3)));
    let stream = parse_plan("udp-stream:size=1000,bitrate=8M", Spec::new).unwrap();
    assert_eq!(stream.rate, 1000.0);
    for wrong in
        ["udp", "udp-bulk", "icmp-rr", "udp-rr:rate", "udp-rr:speed=1", "udp-rr:size=3", "tcp-rr:rate=0"]
    {
        assert!(parse_plan(wrong, Spec::new).is_err(), "{wrong}");
    }
}

#[test]
fn every_kind_runs_over_loopback() {
    for host in ["127.0.0.1", "::1"] {
        let server = local(host);
        for (protocol, connections) in
            [(Protocol::Udp, 1), (Protocol::Udp, 3), (Protocol::Tcp, 1), (Protocol::Tcp, 3)]
        {
            let spec = Spec { connections, size: Size::KB4, ..short(Kind::Rr, protocol) };
            let report = run(&spec, server.address(), &Stop::new()).unwrap();
            assert_eq!((report.sent, report.received, report.lost), (100, 100, 0), "{report:?}");
            assert_eq!(report.bytes, 409_600);
            let (latency, lateness) = (report.latency.unwrap(), report.lateness.unwrap());
            assert_eq!((latency.count, lateness.count), (100, 100));
            // A request cannot be answered before it was sent.
            assert!(latency.max >= lateness.p50);
        }
        let report = run(&short(Kind::Stream, Protocol::Udp), server.address(), &Stop::new()).unwrap();
        assert_eq!((report.sent, report.received, report.lost), (100, 100, 0), "{report:?}");
        assert!(report.jitter_ns.is_some());
        let bulk = Spec {
            duration: Duration::from_millis(100),
            connections: 2,
            ..Spec::new(Kind::Bulk, Protocol::Tcp)
        };
        let report = run(&bulk, server.address(), &Stop::new()).unwrap();
        assert!(report.bytes > 0 && report.throughput_bits_per_s > 0.0);
    }
}

#[test]
fn trains_of_packets_arrive_as_packets() {
    let server = local("127.0.0.1");
    for gro in [false, true] {
        let options = Options { gso: 5, gro, ..Options::default() };
        let spec = Spec { options, ..short(Kind::Stream, Protocol::Udp) };
        let report = run(&spec, server.address(), &Stop::new()).unwrap();
        assert_eq!((report.sent, report.received, report.lost), (100, 100, 0), "{report:?}");
        assert_eq!((report.bytes, report.duplicates), (10_000, 0));
    }
}

#[test]
fn a_group_hears_what_is_sent_to_it() {
    let server = local("127.0.0.1");
    for group in ["239.77.0.1", "127.255.255.255"] {
        let options = Options { group: group.parse().ok(), ..Options::default() };
        let spec = Spec { options, ..short(Kind::Stream, Protocol::Udp) };
        let report = run(&spec, server.address(), &Stop::new()).unwrap();
        assert_eq!((report.sent, report.received), (100, 100), "{group}");
    }
}

#[test]
fn a_slow_reader_is_slow_for_every_packet() {
    let server = local("127.0.0.1");
    let reader_delay = Duration::from_millis(20);
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let options = Options { reader_delay, ..Options::default() };
        let spec = Spec { options, rate: 10.0, count: Some(5), ..short(Kind::Rr, protocol) };
        let latency = run(&spec, server.address(), &Stop::new()).unwrap().latency.unwrap();
        assert_eq!(latency.count, 5);
        // Less would be a request that was not slept for; the median alone says so of most of them.
        assert!(latency.p50 >= 19_900_000 && latency.mean >= 19.9e6, "{protocol:?}: {latency:?}");
    }
}

#[test]
fn what_is_out_of_the_ordinary_must_be_possible() {
    for wrong in [
        "udp-rr:gso=4",
        "tcp-bulk:gro=true",
        "udp-stream:gso=65",
        "udp-stream:gso=60,size=1400",
        "udp-stream:group=10.0.0.1",
        "udp-stream:group=here",
        "ping:reader-delay=1ms",
        "udp-rr:reader-delay=10s",
    ] {
        assert!(parse_plan(wrong, Spec::new).is_err(), "{wrong}");
    }
    let spec = parse_plan("udp-stream:gso=8,gro=true,group=10.1.0.255,reader-delay=3ms", Spec::new).unwrap();
    assert_eq!((spec.options.train(), spec.options.gro), (8, true));
    assert_eq!(spec.options.reader_delay, Duration::from_millis(3));
}

#[test]
fn a_stalled_server_cannot_hide() {
    // A server that reads nothing for 300 ms and then answers everything at once.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stall = Duration::from_millis(300);
    let server = std::thread::spawn(move || {
        use std::io::{BufReader, Read, Write};
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        let _: wire::Hello = wire::receive_line(&mut reader).unwrap();
        wire::send_line(reader.get_mut(), &wire::Welcome::Ready).unwrap();
        let mut request = [0; 100];
        reader.read_exact(&mut request).unwrap();
        std::thread::sleep(stall);
        for number in 0..100 {
            if number > 0 {
                reader.read_exact(&mut request).unwrap();
            }
            reader.get_mut().write_all(&[0; 350]).unwrap();
        }
    });
    let spec = Spec { rate: 1000.0, ..short(Kind::Rr, Protocol::Tcp) };
    let report = run(&spec, address, &Stop::new()).unwrap();
    server.join().unwrap();
    // All 100 requests were due within the stall's first 100 ms: the median waited for its second half too.
    let latency = report.latency.unwrap();
    assert_eq!(latency.count, 100);
    assert!(latency.p50 >= 200_000_000, "{latency:?}");
}

#[test]
fn what_is_not_answered_is_lost() {
    // A server that answers three of four.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let relay = std::thread::spawn(move || {
        let mut reader = std::io::BufReader::new(listener.accept().unwrap().0);
        let _: wire::Hello = wire::receive_line(&mut reader).unwrap();
        wire::send_line(reader.get_mut(), &wire::Welcome::Ready).unwrap();
        let socket = std::net::UdpSocket::bind(address).unwrap();
        let mut buffer = [0; 2000];
        for number in 0..100 {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            if number % 4 != 0 {
                socket.send_to(&buffer[..length], from).unwrap();
            }
        }
    });
    let spec = Spec { timeout: Duration::from_secs(3), ..short(Kind::Rr, Protocol::Udp) };
    let report = run(&spec, address, &Stop::new()).unwrap();
    relay.join().unwrap();
    assert_eq!((report.sent, report.received, report.lost), (100, 75, 25));
}

#[test]
fn no_server_is_one_sentence() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = run(&short(Kind::Rr, Protocol::Udp), address, &Stop::new()).unwrap_err();
    assert!(error.to_string().contains("traffic serve"), "{error}");
}

#[test]
fn an_unannounced_datagram_gets_no_answer() {
    let server = local("127.0.0.1");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket.send_to(&[0; 100], server.address()).unwrap();
    assert!(socket.recv(&mut [0; 100]).is_err());
}

#[test]
fn a_report_survives_json() {
    let server = local("127.0.0.1");
    let report = run(&short(Kind::Rr, Protocol::Tcp), server.address(), &Stop::new()).unwrap();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<TrafficReport>(&text).unwrap(), report);
    let shown = table(&[report]);
    assert!(shown.lines().nth(1).is_some_and(|line| line.starts_with(" tcp-rr")), "{shown}");
}
