//! Telling the recorder of oddities, in a build for that (`cargo xtask build-ebpf --kernel-log`).

/// Sends a message to the recorder. Without the feature nothing of it is compiled, not even its arguments.
macro_rules! oddity {
    ($packet:expr, $($message:tt)+) => {
        #[cfg(feature = "kernel-log")]
        aya_log_ebpf::warn!(&aya_ebpf::programs::TcContext::new($packet), $($message)+);
    };
}
