fn main() {
    overlay_trace_embed::embed("overlay-trace", "OVERLAY_TRACE_EBPF_OBJECT");
}
