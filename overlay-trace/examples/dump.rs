use overlay_trace::trace::Recording;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let max: usize = a.get(2).map_or(20, |s| s.parse().unwrap());
    let r = Recording::open(&a[1]).unwrap();
    let stages: Vec<String> = r.header.stages.iter().map(|s| s.name.clone()).collect();
    let mut n = 0;
    r.for_each_record(|v| { n += 1; if n > max { return; }
        let h = v.header;
        println!("id {:x} parent {:x} total {} bytes {} segs {} outcome {} flags {} reason {} proto {} {}->{} v{} cpu {}", h.id, h.parent, h.end_ns-h.start_ns, h.bytes, h.segments, h.outcome, h.flags, h.drop_reason, h.flow.protocol, h.flow.source_port, h.flow.destination_port, h.flow.version, h.cpu);
        for s in v.way.iter() { println!("    {:<22} L{} hop{} {:>8} {}{}{}", stages[s.stage() as usize], s.level(), s.hop(), s.ns(), if s.is_wait() {"WAIT"} else {""}, if s.is_resumed() {" resumed"} else {""}, if s.is_high() {"HIGH"} else {""}); }
    }).unwrap();
}
