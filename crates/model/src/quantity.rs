//! Kubernetes' quantities: `250m`, `64Mi`, `1e3`. They are stored in their canonical form and compared by what they mean,
//! so that `0.1` and `100m` are one value: compared as text they restarted every pod of a Deployment. See the serialisation
//! format of k8s.io/apimachinery's `resource.Quantity`.

use serde_json::Value;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `k`, `M`, `G`.
    Decimal,
    /// `Ki`, `Mi`, `Gi`.
    Binary,
    /// `e3`, `e6`.
    Exponent,
}

/// A quantity, in billionths, which is as fine as Kubernetes keeps them.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

const NANO: i128 = 1_000_000_000;
/// What is larger counts as this.
const LARGEST: i128 = i64::MAX as i128 * NANO;
/// The longest text that is read.
const LONGEST: usize = 128;
/// Digits of a fraction beyond these only round it up.
const FRACTION: usize = 18;

const DECIMAL: [(&str, u32); 10] =
    [("n", 0), ("u", 3), ("m", 6), ("", 9), ("k", 12), ("M", 15), ("G", 18), ("T", 21), ("P", 24), ("E", 27)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Reads a quantity; `None` if the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if text.len() > LONGEST || whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return None;
        }
        // The power of ten that the number is multiplied by to be in billionths, and the power of two.
        let (ten, two, format) = scale(suffix)?;
        let nano = value(whole, fraction, ten, two).filter(|nano| *nano < LARGEST).unwrap_or(LARGEST);
        Some(Self { nano: if negative { -nano } else { nano }, format })
    }

    /// The one way in which Kubernetes writes this value: no fraction, the largest suffix that needs none.
    pub fn canonical(&self) -> String {
        let units = self.nano / NANO;
        let whole = self.nano % NANO == 0;
        if self.format == Format::Binary && whole && units.abs() >= 1024 {
            let fits = |(_, bits): &&(&str, u32)| units % (1i128 << bits) == 0;
            return match BINARY.iter().rev().find(fits) {
                Some((suffix, bits)) => format!("{}{suffix}", units >> bits),
                None => units.to_string(),
            };
        }
        if self.nano == 0 {
            return "0".to_owned();
        }
        let fits = |(_, power): &&(&str, u32)| self.nano % 10i128.pow(*power) == 0;
        let (suffix, power) = DECIMAL.iter().rev().find(fits).copied().unwrap_or(("n", 0));
        let number = self.nano / 10i128.pow(power);
        match self.format {
            Format::Exponent if power != 9 => format!("{number}e{}", i64::from(power) - 9),
            _ => format!("{number}{suffix}"),
        }
    }

    /// In thousandths, rounded up; `None` if it is negative.
    pub fn milli(&self) -> Option<u64> {
        self.in_units_of(NANO / 1000)
    }

    /// In whole units, rounded up; `None` if it is negative.
    pub fn units(&self) -> Option<u64> {
        self.in_units_of(NANO)
    }

    fn in_units_of(&self, unit: i128) -> Option<u64> {
        u64::try_from(u128::try_from(self.nano).ok()?.div_ceil(unit as u128)).ok()
    }
}

fn scale(suffix: &str) -> Option<(i64, u32, Format)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((i64::from(*power), 0, Format::Decimal));
    }
    if let Some((_, bits)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Some((9, *bits, Format::Binary));
    }
    let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((exponent.clamp(-1000, 1000) + 9, 0, Format::Exponent))
}

/// The value in billionths, rounded up; `None` if it is too large for any number here.
fn value(whole: &str, fraction: &str, ten: i64, two: u32) -> Option<i128> {
    let (kept, rest) = fraction.split_at(fraction.len().min(FRACTION));
    let whole = whole.trim_start_matches('0');
    let mantissa: u128 = match format!("{whole}{kept}").as_str() {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let more = rest.bytes().any(|digit| digit != b'0');
    let scaled = (mantissa.checked_add(u128::from(more))?).checked_mul(1 << two)?;
    let ten = ten - kept.len() as i64;
    let nano = match u32::try_from(ten) {
        _ if scaled == 0 => 0,
        Ok(power) => scaled.checked_mul(10u128.checked_pow(power)?)?,
        Err(_) => {
            let power = u32::try_from(-ten).ok()?;
            10u128.checked_pow(power).map_or(1, |divisor| scaled.div_ceil(divisor))
        }
    };
    i128::try_from(nano).ok()
}

/// Puts the quantities of a pod's specification into their canonical form, where rows of before that was done may not have
/// them so.
pub fn canonical_pod(spec: &mut Value) {
    let canonical = |value: &mut Value| {
        if let Some(quantity) = value.as_str().and_then(Quantity::parse) {
            *value = quantity.canonical().into();
        }
    };
    let all = |map: &mut Value| map.as_object_mut().into_iter().flatten().for_each(|(_, value)| canonical(value));
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            for part in ["requests", "limits"] {
                container.pointer_mut(&format!("/resources/{part}")).into_iter().for_each(all);
            }
        }
    }
    spec.get_mut("overhead").into_iter().for_each(all);
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        volume.pointer_mut("/emptyDir/sizeLimit").into_iter().for_each(canonical);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_one_form() {
        for (text, canonical) in [
            ("1000m", "1"),
            ("0.1", "100m"),
            ("0.0625Gi", "64Mi"),
            ("131072Ki", "128Mi"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("2000", "2k"),
            ("100000000", "100M"),
            ("1e8", "100e6"),
            ("1E3", "1e3"),
            ("1e0", "1"),
            ("1e-3", "1e-3"),
            ("1E", "1E"),
            ("0", "0"),
            ("0Ki", "0"),
            ("0.5Ki", "512"),
            ("0.1Mi", "104857600m"),
            ("1Ki", "1Ki"),
            ("1025Ki", "1025Ki"),
            ("1025", "1025"),
            ("-1000m", "-1"),
            ("+5", "5"),
            (".5", "500m"),
            ("1.", "1"),
            ("0.0000000001", "1n"),
            ("1e-1000", "1e-9"),
            ("99999999999999999999", "9223372036854775807"),
            ("16Ei", "9223372036854775807"),
            ("1e999", "9223372036854775807"),
        ] {
            assert_eq!(Quantity::parse(text).map(|q| q.canonical()).as_deref(), Some(canonical), "{text}");
        }
        for text in ["", "m", "1x", "1.2.3", "1 ", " 1", "1e", "1ee3", "--1", "1KI", "1mi", "."] {
            assert!(Quantity::parse(text).is_none(), "{text}");
        }
        let same = |a: &str, b: &str| Quantity::parse(a) == Quantity::parse(b);
        assert!(same("0.1", "100m") && same("1Ki", "1024") && !same("1k", "1Ki"));
    }
}
