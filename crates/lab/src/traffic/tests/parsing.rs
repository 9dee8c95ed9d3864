//! Descriptions of traffic.

use std::time::Duration;

use super::super::{Size, Spec, parse_bit_rate, parse_plan};

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
fn impossible_options_are_rejected() {
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
    assert_eq!((spec.options.gso_batch(), spec.options.gro), (8, true));
    assert_eq!(spec.options.reader_delay, Duration::from_millis(3));
}
