"""Energy against clock or power limit, phase by phase: one quick calibration a setting, all put back at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from calibrate.knobs import Knobs, Setting
from calibrate.schedule import Progress
from profiles.outputs import OutputError
from profiles.profile import Profile, save


@dataclass(frozen=True, slots=True)
class Swept:
    """One setting: step time and energy of a token at the largest prompt and at the largest batch of its profile."""

    setting: Setting
    file: Path
    prefill_time_s: float
    prefill_j_per_token: float
    decode_time_s: float
    decode_j_per_token: float

    @classmethod
    def of(cls, setting: Setting, profile: Profile, file: Path) -> Swept:
        """The figures of a profile."""
        p, d = profile.prefill, profile.decode
        long = max(p.valid, key=lambda i: (p.new_tokens[i], -p.past_tokens[i]))
        large = max(d.valid, key=lambda i: (d.batch[i], -d.kv_tokens[i]))
        return cls(
            setting,
            file,
            p.time_s[long],
            p.time_s[long] * p.power_w[long] / p.new_tokens[long],
            d.time_s[large],
            d.time_s[large] * d.power_w[large] / d.batch[large],
        )


def sweep(
    settings: Iterable[Setting],
    knobs: Knobs,
    measure: Callable[[Setting, Path, Callable[[Progress], None] | None], Profile],
    folder: Path,
    progress: Callable[[Progress], None] | None = None,
) -> list[Swept]:
    """A profile for each setting, in `folder`; one that is there already is not measured again.

    Args:
        measure: called with the setting, a checkpoint file and `progress`.

    Raises:
        BenchError: a setting is not permitted. Whatever was set is put back, then and in every other case.
        OutputError: the folder cannot be written.
    """
    from profiles.profile import load

    found = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
    with knobs:
        for setting in settings:
            file = folder / f"{setting.label}.json"
            if file.exists():
                found.append(Swept.of(setting, load(file), file))
                continue
            knobs.apply(setting)
            checkpoint = folder / f"{setting.label}.points.jsonl"
            profile = measure(setting, checkpoint, progress)
            save(profile, file)
            checkpoint.unlink(missing_ok=True)
            found.append(Swept.of(setting, profile, file))
    return found
