//! JSON → other JSON. Bytes that are changed at random rarely are JSON any more, and so never get
//! behind the parser.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Value, json};

/// Numbers, texts and times at which something usually ends.
fn odd(random: &mut Random) -> Value {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(60),
        json!(u32::MAX),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(1e300),
        json!(""),
        json!("a"),
        json!("\u{1b}[31m\n\u{202e}<!channel>"),
        json!("x".repeat(700)),
        json!("-009000-01-01T00:00:00Z"),
        json!("0000-01-01T00:00:00Z"),
        json!("1970-01-01T00:00:00Z"),
        json!("2026-11-25T07:59:59.999999999Z"),
        json!("2026-11-25T08:00:00Z"),
        json!("2026-11-25T08:00:01Z"),
        json!("2026-11-25 08:00:00"),
        json!("9000-01-01T00:00:00.999999999Z"),
        json!(1_795_593_600),
        json!(1_795_593_600_000_i64),
        json!([]),
        json!({}),
    ];
    odd[random.below(odd.len())].clone()
}

/// One to three values changed; now and then bytes.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(u64::from(seed));
    let parsed = serde_json::from_slice::<Value>(&data[..size]).ok();
    let Some(mut value) = parsed.filter(|_| random.below(8) > 0) else {
        return fuzzer_mutate(data, size, max_size);
    };
    for _ in 0..=random.below(3) {
        let count = count(&value);
        let mut copied = random.below(count);
        let other = node(&mut value, &mut copied).map_or(Value::Null, |node| node.clone());
        let mut changed = random.below(count);
        if let Some(node) = node(&mut value, &mut changed) {
            change(node, other, &mut random);
        }
    }
    let text = value.to_string();
    if text.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
}

fn count(value: &Value) -> usize {
    let within: usize = match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    };
    1 + within
}

/// The value of that number, counted as [`count`] does.
fn node<'v>(value: &'v mut Value, number: &mut usize) -> Option<&'v mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|value| node(value, number)),
        Value::Object(map) => map.values_mut().find_map(|value| node(value, number)),
        _ => None,
    }
}

fn change(value: &mut Value, other: Value, random: &mut Random) {
    match (random.below(4), &mut *value) {
        (0, _) => *value = other,
        (1, _) => *value = odd(random),
        (_, Value::Array(list)) if !list.is_empty() => {
            let index = random.below(list.len());
            match random.below(3) {
                0 => drop(list.remove(index)),
                1 => list.push(list[index].clone()),
                _ => list.insert(index, other),
            }
        }
        (_, Value::Object(map)) if !map.is_empty() => {
            let key = map
                .keys()
                .nth(random.below(map.len()))
                .cloned()
                .unwrap_or_default();
            match random.below(3) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(key, other)),
                _ => drop(map.insert(format!("{key}x"), other)),
            }
        }
        (_, Value::String(text)) => {
            let middle = text.floor_char_boundary(random.below(text.len() + 1));
            match random.below(3) {
                0 => text.truncate(middle),
                1 => text.insert_str(middle, other.as_str().unwrap_or("\n")),
                _ => *text = text[middle..].to_owned(),
            }
        }
        (_, Value::Number(number)) => {
            let by = 1_i64 << random.below(40);
            let sum = number
                .as_i64()
                .map(|n| n.wrapping_add(if by % 2 == 0 { by } else { -by }));
            *value = json!(sum);
        }
        _ => *value = odd(random),
    }
}

/// A sequence of numbers that the fuzzer's seed decides (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
