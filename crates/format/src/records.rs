//! Records as they lie in a recording: a borrowed view for readers, and an encoder.

use overlay_trace_common::{
    path::{CODE_CPU, CODE_MORE, CODE_POSITION, Span, Spans, VALUE_BITS, VALUE_MASK, position, spans, word},
    record::{HEADER_BYTES, HEADER_BYTES_BEFORE_6, RecordHeader},
};

/// Words of a record's header.
const HEADER_WORDS: usize = HEADER_BYTES / 8;
const _: () = assert!(HEADER_BYTES.is_multiple_of(8) && HEADER_BYTES_BEFORE_6.is_multiple_of(8));

/// One finished packet.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    pub header: RecordHeader,
    /// The words of the packet's path: see [`overlay_trace_common::path`].
    pub path: &'a [u32],
}

impl<'a> RecordView<'a> {
    /// The spans of the packet's path, in order.
    pub fn spans(&self) -> Spans<'a> {
        spans(self.path)
    }
}

/// Words of a record's header in a file of this version.
pub(super) fn header_words(version: u32) -> usize {
    if version < 6 { HEADER_BYTES_BEFORE_6 / 8 } else { HEADER_WORDS }
}

/// Takes the first record off a chunk of records whose headers have so many words, at most [`HEADER_WORDS`]; `None` if
/// the words are not a whole record.
pub(super) fn split_record(words: &[u64], header_words: usize) -> Option<(RecordView<'_>, &[u64])> {
    let (header, rest) = words.split_at_checked(header_words)?;
    let mut whole = [0; HEADER_WORDS];
    whole[..header_words].copy_from_slice(header);
    // SAFETY: `whole` is HEADER_BYTES long and aligned to 8, the alignment of RecordHeader, which has
    // only integers in it: every bit pattern is one.
    let header = unsafe { whole.as_ptr().cast::<RecordHeader>().read() };
    let length = usize::from(header.path_len);
    let (path, rest) = rest.split_at_checked(length.div_ceil(2))?;
    // SAFETY: a u64 is two u32, and as many of them are there.
    let path = unsafe { std::slice::from_raw_parts(path.as_ptr().cast::<u32>(), length) };
    Some((RecordView { header, path }, rest))
}

/// Whether the bytes are one record and nothing else.
pub fn is_whole_record(bytes: &[u8]) -> bool {
    const PATH_LEN: usize = std::mem::offset_of!(RecordHeader, path_len);
    let length = bytes.get(PATH_LEN..).and_then(|rest| rest.first_chunk()).copied().map(u16::from_ne_bytes);
    length.is_some_and(|length| bytes.len() == HEADER_BYTES + usize::from(length).div_ceil(2) * 8)
}

/// The header and the path of a record as the kernel side wrote it.
pub fn record_of(bytes: &[u8]) -> Option<(RecordHeader, Vec<Span>)> {
    let mut words = vec![0; bytes.len() / 8];
    bytes_of(&mut words).copy_from_slice(&bytes[..bytes.len() / 8 * 8]);
    let (record, _) = split_record(&words, HEADER_WORDS)?;
    Some((record.header, record.spans().collect()))
}

/// The bytes of words, to be filled from a file.
pub(super) fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: any 8 bytes are a u64 and the other way round, and u8 has no alignment.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 8) }
}

/// The words of a path of these spans. A span without a CPU is on the CPU of the one before.
pub fn encode_path(spans: &[Span]) -> Vec<u32> {
    let (mut words, mut at, mut on) = (Vec::new(), 0, None);
    for span in spans {
        if let Some(cpu) = span.cpu.filter(|_| span.cpu != on) {
            words.push(word(CODE_CPU, cpu.into()));
            on = span.cpu;
        }
        let here = position(u32::from(span.level), u32::from(span.hop));
        if here != at {
            words.push(word(CODE_POSITION, here));
            at = here;
        }
        let more = (span.ns >> VALUE_BITS) as u32;
        if more != 0 {
            words.push(word(CODE_MORE, more & VALUE_MASK));
        }
        words.push(word(span.stage, span.ns as u32 & VALUE_MASK));
    }
    words
}

/// Appends a record to `out`, in this machine's byte order; `header.path_len` is set to the path's length.
pub fn encode_record(header: &RecordHeader, path: &[u32], out: &mut Vec<u8>) {
    let h = RecordHeader { path_len: path.len() as u16, ..*header };
    for number in [h.id, h.parent, h.start_ns, h.end_ns, h.drop_location] {
        out.extend(number.to_ne_bytes());
    }
    out.extend(h.flow.source);
    out.extend(h.flow.destination);
    out.extend(h.flow.source_port.to_ne_bytes());
    out.extend(h.flow.destination_port.to_ne_bytes());
    out.extend([h.flow.protocol, h.flow.version]);
    out.extend(h.flow.ip_id.to_ne_bytes());
    out.extend(h.flow.sequence.to_ne_bytes());
    out.extend(h.bytes.to_ne_bytes());
    out.extend(h.drop_reason.to_ne_bytes());
    out.extend(h.segments.to_ne_bytes());
    out.extend(h.path_len.to_ne_bytes());
    out.extend([h.outcome, h.flags.bits()]);
    out.extend(h.cpu.to_ne_bytes());
    out.extend(h.weight.to_ne_bytes());
    out.extend(h.witness.to_ne_bytes());
    for word in path {
        out.extend(word.to_ne_bytes());
    }
    if !path.len().is_multiple_of(2) {
        out.extend([0; 4]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_says_another_length_than_it_has_is_not_whole() {
        for words in 0..4 {
            let mut bytes = Vec::new();
            encode_record(&RecordHeader::default(), &vec![7; words], &mut bytes);
            assert!(is_whole_record(&bytes));
            assert!(!is_whole_record(&[&bytes[..], &[0; 8]].concat()));
            assert!(!is_whole_record(&bytes[..bytes.len() - 8]) && !is_whole_record(&bytes[..40]));
        }
    }
}
