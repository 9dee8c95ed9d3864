fn main() {
    overlay_trace_embed::embed("lab", "OVERLAY_TRACE_LAB_OBJECT");
}
