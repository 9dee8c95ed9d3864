//! Numbers for people.

/// A time in three significant digits: `870ns`, `12.3µs`, `4.56ms`, `1.20s`.
pub fn time(ns: f64) -> String {
    let size = ns.abs();
    if size < 0.5 {
        // Not "-0ns".
        return "0ns".into();
    }
    if size < 999.5 {
        return format!("{ns:.0}ns");
    }
    let (value, unit) = match size {
        size if size < 999.5e3 => (ns / 1e3, "µs"),
        size if size < 999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{}{unit}", three_digits(value))
}

/// As [`time`], with a sign.
pub fn signed_time(ns: f64) -> String {
    if ns.abs() < 0.5 {
        "0ns".into()
    } else {
        format!("{}{}", if ns < 0.0 { '-' } else { '+' }, time(ns.abs()))
    }
}

/// A fraction as a percentage.
pub fn percent(part: f64) -> String {
    let value = part * 100.0;
    match value {
        value if value > 0.0 && value < 0.05 => "<0.1%".into(),
        // Not "-0.0%".
        value if value.abs() < 0.05 => "0.0%".into(),
        value => format!("{value:.1}%"),
    }
}

/// A number with thousands separators.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bit rate: `1.92 Gbit/s`.
pub fn bit_rate(bits_per_s: f64) -> String {
    let (value, unit) = match bits_per_s.abs() {
        rate if rate < 999.5 => (bits_per_s, "bit/s"),
        rate if rate < 999.5e3 => (bits_per_s / 1e3, "kbit/s"),
        rate if rate < 999.5e6 => (bits_per_s / 1e6, "Mbit/s"),
        _ => (bits_per_s / 1e9, "Gbit/s"),
    };
    format!("{} {unit}", three_digits(value))
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let cases = [
            (0.0, "0ns"),
            (0.4, "0ns"),
            (999.4, "999ns"),
            (999.5, "1.00µs"),
            (12_345.0, "12.3µs"),
            (9_995.0, "10.0µs"),
            (99_960.0, "100µs"),
            (999_499.0, "999µs"),
            (999_500.0, "1.00ms"),
            (2.5e9, "2.50s"),
            (4e12, "4000s"),
        ];
        for (ns, text) in cases {
            assert_eq!(time(ns), text, "{ns}");
        }
        assert_eq!(
            (signed_time(-1500.0), signed_time(20.0), signed_time(-0.2)),
            ("-1.50µs".into(), "+20ns".into(), "0ns".into())
        );
    }

    #[test]
    fn other_numbers() {
        assert_eq!(
            (percent(0.1234), percent(0.0001), percent(0.0)),
            ("12.3%".into(), "<0.1%".into(), "0.0%".into())
        );
        assert_eq!(
            (percent(-0.0001), percent(-0.0), percent(-0.02)),
            ("0.0%".into(), "0.0%".into(), "-2.0%".into())
        );
        assert_eq!(time(-0.3), "0ns");
        assert_eq!(
            (count(0), count(999), count(1000), count(1234567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!((bit_rate(1.92e9), bit_rate(400.0)), ("1.92 Gbit/s".into(), "400 bit/s".into()));
    }
}
