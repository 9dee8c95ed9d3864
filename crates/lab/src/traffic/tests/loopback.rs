//! Client and server over the loopback device.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::*;

fn local(host: &str) -> Server {
    Server::start(SocketAddr::new(host.parse().unwrap(), 0)).unwrap()
}

fn short(kind: Kind, protocol: Protocol) -> Spec {
    // A time limit that is not reached on a busy machine either.
    let limit = Duration::from_secs(20);
    Spec { rate: 2000.0, count: Some(100), duration: limit, timeout: limit, ..Spec::new(kind, protocol) }
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
            let (latency, scheduling_delay) = (report.latency.unwrap(), report.scheduling_delay.unwrap());
            assert_eq!((latency.count, scheduling_delay.count), (100, 100));
            // A request cannot be answered before it was sent.
            assert!(latency.max >= scheduling_delay.p50);
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
fn a_gso_batch_arrives_as_packets() {
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
fn a_multicast_or_broadcast_group_receives_a_stream() {
    let server = local("127.0.0.1");
    for group in ["239.77.0.1", "127.255.255.255"] {
        let options = Options { group: group.parse().ok(), ..Options::default() };
        let spec = Spec { options, ..short(Kind::Stream, Protocol::Udp) };
        let report = run(&spec, server.address(), &Stop::new()).unwrap();
        assert_eq!((report.sent, report.received), (100, 100), "{group}");
    }
}

#[test]
fn reader_delay_applies_to_every_packet() {
    let server = local("127.0.0.1");
    let reader_delay = Duration::from_millis(20);
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let options = Options { reader_delay, ..Options::default() };
        let spec = Spec { options, rate: 10.0, count: Some(5), ..short(Kind::Rr, protocol) };
        let latency = run(&spec, server.address(), &Stop::new()).unwrap().latency.unwrap();
        assert_eq!(latency.count, 5);
        // A smaller mean would show a request without the delay, which the median alone cannot.
        assert!(latency.p50 >= 19_900_000 && latency.mean >= 19.9e6, "{protocol:?}: {latency:?}");
    }
}

#[test]
fn a_stall_shows_up_in_every_request_that_was_due() {
    // A server that reads nothing for 300 ms and then answers everything at once.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stall = Duration::from_millis(300);
    let server = std::thread::spawn(move || {
        use std::io::{BufReader, Read, Write};
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        let _: protocol::Hello = protocol::receive_line(&mut reader).unwrap();
        protocol::send_line(reader.get_mut(), &protocol::Welcome::Ready).unwrap();
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
    // All 100 requests were due in the first 100 ms of the stall, so the median latency is at least 200 ms.
    let latency = report.latency.unwrap();
    assert_eq!(latency.count, 100);
    assert!(latency.p50 >= 200_000_000, "{latency:?}");
}

#[test]
fn unanswered_requests_are_lost() {
    // A server that answers three of four.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut reader = std::io::BufReader::new(listener.accept().unwrap().0);
        let _: protocol::Hello = protocol::receive_line(&mut reader).unwrap();
        protocol::send_line(reader.get_mut(), &protocol::Welcome::Ready).unwrap();
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
    server.join().unwrap();
    assert_eq!((report.sent, report.received, report.lost), (100, 75, 25));
}

#[test]
fn the_error_without_a_server_names_the_command() {
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
