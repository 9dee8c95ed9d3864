use super::*;

fn labels(stage: &str, pod: u64) -> Labels {
    let netns = format!("shop/web-{pod}");
    Labels { stage: stage.into(), layer: "ip".into(), kind: "work", netns, ..Labels::default() }
}

fn times(values: &[u64]) -> Dist {
    let mut dist = Dist::default();
    values.iter().for_each(|ns| dist.add(*ns));
    dist
}

fn sum(aggregation: &Aggregation) -> (u64, u128) {
    let all = aggregation.stages().map(|(_, histogram)| (histogram.count(), histogram.sum_ns()));
    let there = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    (there.0 + aggregation.retired.count, there.1 + aggregation.retired.sum_ns)
}

#[test]
fn what_finds_no_room_is_in_other_and_the_sums_stay_exact() {
    let mut aggregation = Aggregation::new(10, Devices::Classes);
    let (mut count, mut ns) = (0, 0);
    for pod in 0..100 {
        let values = [pod * 1000 + 7, 12_345_678_901];
        aggregation.add_times(labels("ip-output", pod), &times(&values), Duration::from_secs(pod));
        count += 2;
        ns += u128::from(values[0]) + u128::from(values[1]);
    }
    assert_eq!(aggregation.stages().count(), 10);
    assert_eq!(sum(&aggregation), (count, ns));
    let other = aggregation.stages().find(|(labels, _)| *labels == Labels::other()).unwrap();
    assert_eq!((other.1.count(), aggregation.size().1), (91 * 2, 91));
}

#[test]
fn a_month_of_pods_needs_the_memory_of_an_hour() {
    let mut aggregation = Aggregation::new(2000, Devices::Classes);
    let (mut count, mut most) = (0, 0);
    // Each minute another pod, which lives for three.
    for minute in 0..30 * 24 * 60u64 {
        let now = Duration::from_secs(minute * 60);
        for pod in minute.saturating_sub(2)..=minute {
            for stage in ["ip-output", "veth-xmit"] {
                aggregation.add_times(labels(stage, pod), &times(&[pod + 1]), now);
                count += 1;
            }
        }
        aggregation.retire(now);
        if minute % 30 == 0 {
            most = most.max(aggregation.stages().count());
        }
    }
    // Those of an hour, and of the minutes before.
    assert!((100..=2 * 75).contains(&most), "{most}");
    assert_eq!(aggregation.size(), (aggregation.stages().count(), 0));
    assert_eq!(sum(&aggregation).0, count);
    assert!(aggregation.retired.series > 80_000, "{:?}", aggregation.retired);
    // There is room for what comes now.
    let now = Duration::from_secs(31 * 24 * 3600);
    aggregation.add_times(labels("new", 1), &times(&[1]), now);
    assert!(aggregation.stages().any(|(labels, _)| labels.stage == "new"));
}
