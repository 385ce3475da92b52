"""A corpus of one's own: every layout and every kind of file through the real code, and what is wrong said by name."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from asr.corpora import prepare, read_audio, read_cuts
from asr.corpora.folder.settings import Splits
from asr.corpora.folder.splits import share_out
from asr.corpora.preparation import summary_lines
from common.errors import UserError

RATE = 8000
SPEAKERS = ("ann", "bob", "cleo", "dan", "eva", "fay", "gus", "hal", "ida", "jo")


def tone(number: int, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    """Another one for each number: int16."""
    return (9000 * np.sin(np.arange(round(seconds * rate)) * (400 + 7 * number) * 2 * np.pi / rate)).astype(np.int16)


class Own:
    """Recordings of ten speakers, two each, with a table; to be changed by a test."""

    def __init__(self, folder: Path):
        self.folder, self.out = folder / "own", folder / "out"
        (self.folder / "wav").mkdir(parents=True)
        self.rows = []
        for number in range(20):
            name, speaker = f"wav/{number:02d}.wav", SPEAKERS[number // 2]
            soundfile.write(self.folder / name, tone(number), RATE)
            self.rows.append([name, f"word{number % 3} other", speaker])
        self.table = self.folder / "recordings.csv"
        self.write()

    def write(self, header: str = "audio,text,speaker", path: Path | None = None, rows: list | None = None) -> None:
        lines = [header, *(",".join(row) for row in (self.rows if rows is None else rows))]
        (path or self.table).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def put(self, row: int, audio: str | None = None, text: str | None = None, speaker: str | None = None) -> Path:
        """Change a row; the path of its recording."""
        new = (audio, text, speaker)
        self.rows[row] = [old if each is None else each for old, each in zip(self.rows[row], new, strict=True)]
        self.write()
        return self.folder / self.rows[row][0]

    def prepare(self, source: object = None, **settings) -> dict:
        return prepare("folder", {"source": source or str(self.folder), **settings}, self.out)

    def sets(self) -> dict[str, list]:
        tests = json.loads((self.out / "corpus.json").read_text())["test_sets"]
        return {name: read_cuts(self.out / f"{name}.jsonl.gz") for name in ("train", "dev", *tests)}


@pytest.fixture
def own(tmp_path) -> Own:
    return Own(tmp_path)


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "asr.corpora", "folder", *arguments], capture_output=True, text=True, timeout=120
    )


# Splits.


def test_the_command_splits_by_speaker_and_says_what_there_is(own):
    own.put(0, text="")
    settings = json.dumps({"source": str(own.folder), "longest_seconds": 5})
    soundfile.write(own.put(2), tone(2, 6.0), RATE)
    done = command("--out", str(own.out), "--settings", settings)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "splits made by speaker (seed 0): train 7, dev 1, test 2 of 10 speakers"
    assert lines[1] == "8000 Hz, one channel"
    sets = own.sets()
    for line, (name, utterances) in zip(lines[2:], sets.items(), strict=True):
        length = f"{sum(each.seconds for each in utterances) / 60:.1f} min"
        assert line.startswith(f"{name}: {length}, {len(utterances)} utterances, {2 * len(utterances)} words, ")
        assert "the longest 0.5 s" in line
    assert "1 without transcript" in done.stdout and "1 longer than 5 s" in done.stdout
    named = (own.out / "dropped.csv").read_text().splitlines()
    assert sorted(line.split(",", 1)[1] for line in named[1:]) == [
        f"wav/00,{own.table}: line 2,without transcript",
        f"wav/02,{own.table}: line 4,longer than 5 s",
    ]


def test_splits_follow_from_the_names_of_speakers_alone(own):
    first = {name: {each.speaker for each in found} for name, found in _prepared(own).items()}
    assert sum(map(len, first.values())) == len(set.union(*first.values())) == 10
    own.rows.reverse()
    own.write()
    for row in range(0, 20, 4):
        own.put(row, text="else")
    moved = own.folder.rename(own.folder.with_name("elsewhere"))
    own.prepare(str(moved))
    assert {name: {each.speaker for each in found} for name, found in own.sets().items()} == first
    own.prepare(str(moved), splits={"seed": 1})
    assert {name: {each.speaker for each in found} for name, found in own.sets().items()} != first


def test_splits_are_pinned():
    """The order of SHA-256 over "<seed> <name>": a change would share out every user's corpus anew."""
    found = share_out(SPEAKERS, Splits(), "speakers")
    assert {name: split for name, split in found.items() if split != "train"} == {
        "dan": "test",
        "ida": "test",
        "jo": "dev",
    }


def _prepared(own, **settings):
    own.prepare(**settings)
    return own.sets()


def test_without_speakers_splits_are_by_recording_and_the_units_are_utterances(own):
    own.write("audio,text", rows=[row[:2] for row in own.rows])
    corpus = own.prepare()
    assert corpus["notes"][0] == (
        "splits made by recording (seed 0): train 14, dev 2, test 4 of 20 recordings; nobody says who speaks: "
        "intervals are over utterances, and there are no verdicts"
    )
    assert [held["speakers"] for held in corpus["sets"].values()] == [0, 0, 0]
    assert {each.speaker for found in own.sets().values() for each in found} == {""}
    assert sum("nobody says" in line for line in summary_lines(corpus)) == 1


def test_a_speaker_column_can_be_passed_over(own):
    assert "nobody says" in own.prepare(columns={"speaker": None})["notes"][0]


def test_given_splits_are_taken_as_they_are(own, capsys):
    parts = {"train": own.rows[:13], "dev": own.rows[13:15], "test_a": own.rows[15:18], "test_b": own.rows[18:]}
    own.table.unlink()
    for name, rows in parts.items():
        own.write(path=own.folder / f"{name}.csv", rows=rows)
    corpus = own.prepare()
    assert corpus["test_sets"] == ["test_a", "test_b"]
    assert {name: len(found) for name, found in own.sets().items()} == {n: len(rows) for n, rows in parts.items()}
    assert corpus["notes"][0] == "splits as given; 10 speakers"
    said = capsys.readouterr().err
    assert said.count("note:") == 1 and "1 speaker of 'dev' is in the training set too (gus)" in said
    before = own.sets()
    (own.folder / "validated.csv").write_text("none of the sets\n")
    own.prepare({name: str(own.folder / f"{name}.csv") for name in parts})
    assert own.sets() == before


def test_given_splits_may_use_the_same_names(own):
    for name, rows in {"train": own.rows[:10], "dev": own.rows[10:12], "test": own.rows[12:14]}.items():
        (own.folder / name).mkdir()
        for number, (audio, _, _) in enumerate(rows):
            (own.folder / audio).rename(own.folder / name / f"{number}.wav")
        own.write(path=own.folder / name / "all.csv", rows=[[f"{n}.wav", *row[1:]] for n, row in enumerate(rows)])
    own.table.unlink()
    own.prepare(columns={"speaker": None})
    assert [each.id for each in own.sets()["dev"]] == ["dev_0", "dev_1"]
    assert own.sets()["train"][-1].id == "9"


# Layouts.


def test_a_tsv_with_other_columns_and_a_folder_of_clips(own):
    rows = [[Path(audio).name, f'he said "{text}', speaker] for audio, text, speaker in own.rows]
    lines = ["client_id\tpath\tsentence", *("\t".join((speaker, audio, text)) for audio, text, speaker in rows)]
    (own.folder / "all.tsv").write_text("\n".join(lines))
    columns = {"audio": "path", "text": "sentence", "speaker": "client_id"}
    own.prepare(str(own.folder / "all.tsv"), columns=columns, audio_folder="wav")
    first = own.sets()["train"][0]
    assert first.text.startswith('he said "word') and first.audio.parent == own.folder / "wav"


def test_a_table_with_semicolons_is_the_same_corpus(own):
    """As spreadsheets write it where commas are decimal signs, with a comma in a transcript and a mark in front."""
    own.put(0, text="word0, other")
    own.write(rows=[[audio, f'"{text}"', speaker] for audio, text, speaker in own.rows])
    own.prepare()
    commas = {name: [(each.id, each.text, each.speaker) for each in found] for name, found in own.sets().items()}
    lines = ["audio;text;speaker", *(";".join(row) for row in own.rows)]
    own.table.write_text("\n".join(lines), encoding="utf-8-sig")
    own.prepare()
    found = {name: [(each.id, each.text, each.speaker) for each in here] for name, here in own.sets().items()}
    assert found == commas and any("word0, other" in text for here in found.values() for _, text, _ in here)


def kaldi(own, stretches: bool = False) -> Path:
    """The same recordings as a Kaldi data folder; with `segments`, one recording for each speaker."""
    folder = own.folder / "data"
    folder.mkdir()
    files = {name: [] for name in ("wav.scp", "text", "utt2spk", *(["segments"] if stretches else []))}
    for number, (audio, text, speaker) in enumerate(own.rows):
        key = f"{speaker}-{number:02d}"
        files["text"].append(f"{key} {text}")
        files["utt2spk"].append(f"{key} {speaker}")
        if stretches:
            files["segments"].append(f"{key} {speaker}_all {0.25 * (number % 2)} {0.25 * (number % 2) + 0.2}")
            if number % 2 == 0:
                files["wav.scp"].append(f"{speaker}_all ../{audio}")
        else:
            files["wav.scp"].append(f"{key} {own.folder / audio}")
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def test_a_kaldi_folder_is_the_same_corpus_as_the_table(own):
    own.prepare()
    table = own.sets()
    own.prepare(str(kaldi(own)))
    for name, found in own.sets().items():
        assert [(u.audio, u.text, u.speaker, u.seconds) for u in found] == [
            (u.audio, u.text, u.speaker, u.seconds) for u in table[name]
        ]
        assert all(each.id.startswith(f"{each.speaker}-") and each.id.count(each.speaker) == 1 for each in found)


def test_segments_of_a_kaldi_folder_are_stretches(own):
    own.prepare(str(kaldi(own, stretches=True)))
    for found in own.sets().values():
        for each in found:
            whole, _ = soundfile.read(each.audio, dtype="float32")
            first = round(each.start * RATE)
            np.testing.assert_array_equal(read_audio(each), whole[first : first + 1600])
    assert {each.start for found in own.sets().values() for each in found} == {0.0, 0.25}


def test_a_kaldi_folder_of_utterances_that_are_their_own_speakers_names_nobody(own):
    folder = kaldi(own)
    keys = [line.split()[0] for line in (folder / "text").read_text().splitlines()]
    (folder / "utt2spk").write_text("".join(f"{key} {key}\n" for key in keys))
    assert "nobody says" in own.prepare(str(folder))["notes"][0]


def lhotse_pair(own, start: float = 0.0, seconds: float = 0.5) -> tuple[Path, Path]:
    """The same recordings as manifests, written by lhotse; something is said from `start` on."""
    from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

    recordings, supervisions = [], []
    for number, (audio, text, speaker) in enumerate(own.rows):
        found = Recording.from_file(own.folder / audio, recording_id=f"r{number:02d}")
        recordings.append(found)
        said = {"text": text, "speaker": speaker, "channel": 0}
        supervisions.append(SupervisionSegment(f"s{number:02d}", found.id, start=start, duration=seconds, **said))
    folder = own.folder / "manifests"
    folder.mkdir(exist_ok=True)
    pair = folder / "own_recordings_all.jsonl.gz", folder / "own_supervisions_all.jsonl.gz"
    RecordingSet.from_recordings(recordings).to_file(pair[0])
    SupervisionSet.from_segments(supervisions).to_file(pair[1])
    return pair


def test_lhotse_manifests_are_the_same_corpus_as_the_table(own):
    from lhotse import CutSet, load_manifest

    own.prepare()
    table = own.sets()
    recordings, supervisions = lhotse_pair(own)

    def like_the_table() -> bool:
        return all(
            [(u.audio, u.text, u.speaker, u.seconds) for u in found]
            == [(u.audio, u.text, u.speaker, u.seconds) for u in table[name]]
            for name, found in own.sets().items()
        )

    own.prepare(str(recordings.parent))
    assert like_the_table()
    own.prepare({"recordings": str(recordings), "supervisions": str(supervisions)})
    assert like_the_table()
    cuts = CutSet.from_manifests(load_manifest(recordings), load_manifest(supervisions))
    cuts.to_file(recordings.parent / "cuts.jsonl.gz")
    own.prepare(str(recordings.parent))
    assert like_the_table()
    (recordings.parent / "cuts.jsonl.gz").unlink()
    lhotse_pair(own, 0.1, 0.3)
    own.prepare(str(recordings.parent))
    assert {(each.start, each.seconds) for found in own.sets().values() for each in found} == {(0.1, 0.3)}
    cuts = CutSet.from_manifests(load_manifest(recordings), load_manifest(supervisions))
    CutSet.from_cuts(cut.truncate(offset=0.1, duration=0.35) for cut in cuts).to_file(own.folder / "short.jsonl")
    own.prepare(str(own.folder / "short.jsonl"))
    assert {(each.start, each.seconds) for found in own.sets().values() for each in found} == {(0.1, 0.3)}


# Sound.


def write_m4a(path: Path, samples: np.ndarray, rate: int) -> None:
    """AAC in an MP4 file; `samples` is int16, (samples,) or (samples, channels)."""
    planes = np.atleast_2d(samples.T).astype(np.float32) / 32768
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo" if len(planes) == 2 else "mono")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=stream.layout.name)
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


WRITERS = {
    "wav": soundfile.write,
    "flac": soundfile.write,
    "mp3": soundfile.write,
    "ogg": soundfile.write,
    "m4a": write_m4a,
}


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("kind", [*WRITERS])
def test_every_kind_of_file_is_heard_as_the_wav_is(own, kind, rate):
    speech = tone(3, 1.0, rate)
    for row in range(20):
        path = own.put(row, audio=f"wav/{row:02d}.{kind}", text="a")
        WRITERS[kind](path, np.roll(speech, 37 * row), rate)
    own.prepare(sampling_rate=8000)
    stays = kind in ("wav", "flac") and rate == 8000
    for utterance in (each for found in own.sets().values() for each in found):
        assert (utterance.audio.parent == own.folder / "wav") == stays
        samples = read_audio(utterance)
        assert abs(len(samples) / 8000 - 1.0) < 2100 / rate  # encoders pad to whole packets, of 1024 or 1152 samples
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        assert abs(np.argmax(spectrum) * 8000 / len(samples) - 421) < 3
        loud = np.sqrt(np.mean(np.square(samples[3000:6000])))
        assert abs(loud * 2**0.5 / (9000 / 32768) - 1) < 0.05


@pytest.mark.parametrize("kind", ["wav", "m4a"])
def test_channels_are_averaged_or_one_is_chosen(own, kind):
    left, right = tone(0, 1.0), tone(40, 1.0)
    for row in range(20):
        path = own.put(row, audio=f"wav/{row:02d}.{kind}", text="a")
        WRITERS[kind](path, np.stack([np.roll(left, row), np.roll(right, row)], axis=1), RATE)

    def heard(said: str, **settings) -> list[float]:
        assert own.prepare(sampling_rate=8000, **settings)["notes"][1] == f"8000 Hz, {said}"
        samples = read_audio(own.sets()["test"][0])[:8000]
        spectrum = np.abs(np.fft.rfft(samples))
        return [round(float(spectrum[place - 2 : place + 3].max() / spectrum.max()), 1) for place in (400, 680)]

    assert heard("the mean of several channels") == [1.0, 1.0]
    assert heard("channel 0 of several", channel=0) == [1.0, 0.0]
    assert heard("channel 1 of several", channel=1) == [0.0, 1.0]
    stays = own.sets()["test"][0].audio.parent == own.folder / "wav"
    assert stays == (kind == "wav")


def test_the_rate_is_the_lowest_of_all_within_bounds(own):
    soundfile.write(own.folder / "wav/00.wav", tone(0, rate=48000), 48000)
    assert own.prepare()["sampling_rate"] == 8000
    for number in range(20):
        soundfile.write(own.folder / f"wav/{number:02d}.wav", tone(number, rate=44100), 44100)
    assert own.prepare()["sampling_rate"] == 16000
    assert own.prepare(sampling_rate=44100)["sampling_rate"] == 44100
    assert not (own.out / "audio").exists()


def test_two_workers_make_the_same_corpus(own):
    for row in range(0, 20, 3):
        soundfile.write(own.put(row, audio=f"wav/{row:02d}.mp3"), tone(row), RATE)
    own.prepare()
    one = {path: path.read_bytes() for path in own.out.rglob("*") if path.suffix in (".wav", ".csv")}
    one |= {path: gzip.decompress(path.read_bytes()) for path in own.out.glob("*.jsonl.gz")}
    own.prepare(workers=2)
    assert len(one) > 8
    for path, content in one.items():
        assert (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()) == content


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_that_was_streamed_does_not_say_its_length_and_is_whole(own, size):
    path = own.put(3)
    content = path.read_bytes()
    assert content[36:40] == b"data"
    path.write_bytes(content[:40] + size.to_bytes(4, "little") + content[44:])
    own.prepare()
    (found,) = [each for found in own.sets().values() for each in found if each.audio == path]
    assert found.seconds == 0.5


# Transcripts.


def test_transcripts_of_any_script_and_case_stay_but_for_their_normal_form(own):
    texts = ["Ünïcode Ä", "Привет мир", "你好 世界", "नमस्ते", "A\u030angstro\u0308m", "שלום"]
    for row in range(20):
        own.put(row, text=texts[row % len(texts)])
    own.prepare()
    said = {each.text for found in own.sets().values() for each in found}
    assert said <= {*texts[:4], "Ångström", texts[5]} and "Ångström" in said


def test_a_dev_utterance_in_characters_that_training_lacks_is_left_out_and_counted(own):
    own.prepare()
    speaker = own.sets()["dev"][0].speaker
    own.put([row[2] for row in own.rows].index(speaker), text="wörd")
    corpus = own.prepare()
    assert corpus["sets"]["dev"]["dropped"] == {"a character that training lacks": 1}
    assert corpus["sets"]["dev"]["utterances"] == 1


# What is refused: the message names the file, the line or the setting.


def _no_source(own):
    return {"source": str(own.folder / "nothing")}


def _two_tables(own):
    own.write(path=own.folder / "second.csv")


def _a_text(own):
    (own.folder / "notes.txt").write_text("none")
    return {"source": str(own.folder / "notes.txt")}


def _no_dev(own):
    own.table.rename(own.folder / "train.csv")


def _two_trains(own):
    for name in ("train.csv", "train.tsv", "dev.csv", "test.csv"):
        own.write(path=own.folder / name)


def _missing_audio(own):
    own.put(3, audio="wav/gone.wav")


def _empty_audio(own):
    own.put(3).write_bytes(b"")


def _no_sound(own):
    own.put(3, audio="wav/03.m4a").write_bytes(b"this is a text, not a recording")


def _half_a_wav(own):
    path = own.put(3)
    path.write_bytes(path.read_bytes()[:4022])


def _half_a_wav_behind_a_remark(own):
    """A chunk of an odd length stands before the samples, and the recording would be converted."""
    path = own.put(3)
    soundfile.write(path, tone(3, rate=48000), 48000)
    content = path.read_bytes()
    path.write_bytes((content[:36] + b"note\x03\0\0\0abc\0" + content[36:])[: len(content) // 2])


def _broken_flac(own):
    path = own.put(3, audio="wav/03.flac")
    soundfile.write(path, np.random.default_rng(0).integers(-9000, 9000, 8000).astype(np.int16), RATE)
    path.write_bytes(path.read_bytes()[:4000])


def _broken_m4a(own):
    path = own.put(3, audio="wav/03.m4a")
    write_m4a(path, tone(3, 3.0), RATE)
    path.write_bytes(path.read_bytes()[:3000])


def _no_such_channel(own):
    return {"channel": 1}


def _not_a_number(own):
    path = own.put(3)
    samples = np.zeros((4000, 2), np.float32)
    samples[17] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def _no_column(own):
    own.write("audio,transcript,speaker")


def _asked_column(own):
    return {"columns": {"speaker": "talker"}}


def _short_line(own):
    own.rows[4] = own.rows[4][:2]
    own.write()


def _twice(own):
    own.put(5, audio="wav/04.wav")


def _one_without_speaker(own):
    own.put(5, speaker="")


def _alike_speakers(own):
    own.put(4, speaker="a b")
    own.put(5, speaker="a_b")


def _latin(own):
    own.table.write_bytes("audio,text,speaker\nwav/00.wav,Ä,ann\n".encode("latin-1"))


def _only_a_header(own):
    own.write(rows=[])


def _two_speakers(own):
    own.write(rows=own.rows[:4])


def _all_empty(own):
    for row in range(20):
        own.put(row, text="")


def _the_same_file(own):
    for name, rows in {"train": own.rows[:10], "dev": own.rows[10:12], "test": own.rows[9:10]}.items():
        own.write(path=own.folder / f"{name}.csv", rows=rows)


def _a_copy(own):
    own.prepare()
    sets = own.sets()
    one, other = sets["train"][0].audio, sets["test"][0].audio
    other.write_bytes(one.read_bytes())


def _a_pipe(own):
    scp = kaldi(own) / "wav.scp"
    scp.write_text(scp.read_text().replace(".wav", ".wav | touch ran |", 1))
    return {"source": str(scp.parent)}


def _an_archive(own):
    scp = kaldi(own) / "wav.scp"
    scp.write_text(scp.read_text().replace("00.wav", "00.ark:17", 1))
    return {"source": str(scp.parent)}


def _text_alone(own):
    text = kaldi(own) / "text"
    text.write_text(text.read_text() + "zoe-1 hello\n")
    return {"source": str(text.parent)}


def _wrong_segment(own):
    segments = kaldi(own, stretches=True) / "segments"
    segments.write_text(segments.read_text().replace("0.25 0.45", "0.45 0.25", 1))
    return {"source": str(segments.parent)}


def _late_segment(own):
    segments = kaldi(own, stretches=True) / "segments"
    segments.write_text(segments.read_text().replace("0.25 0.45", "0.25 0.75", 1))
    return {"source": str(segments.parent)}


def _not_lhotse(own):
    (own.folder / "cuts.jsonl").write_text('{"what": "is this"}\n')
    return {"source": str(own.folder / "cuts.jsonl")}


def _only_supervisions(own):
    return {"source": str(lhotse_pair(own)[1])}


def _nothing_to_train_on(own):
    return {"splits": {"dev": 0.55, "test": 0.44}}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_source, ["source: ", "nothing: no such file or folder; name your recordings: a .csv or .tsv table"]),
        (_two_tables, ["holds recordings.csv, second.csv, not one of these alone"]),
        (_a_text, ["notes.txt: is none of these: a .csv"]),
        (_no_dev, ["has given splits (train), but not 'dev'"]),
        (_two_trains, ["both train.csv and train.tsv are a source of 'train'"]),
        (_missing_audio, ["recordings.csv: line 5: there is no recording", "wav/gone.wav", "audio_folder"]),
        (_empty_audio, ["recordings.csv: line 5", "the audio file is empty"]),
        (_no_sound, ["recordings.csv: line 5", "wav/03.m4a cannot be read as a recording", "convert it"]),
        (_half_a_wav, ["recordings.csv: line 5", "wav/03.wav is truncated (3978 of 8000 bytes of samples)"]),
        (_half_a_wav_behind_a_remark, ["recordings.csv: line 5", "wav/03.wav is truncated (", "of 48000 bytes"]),
        (_broken_flac, ["wav/03.flac"]),
        (_broken_m4a, ["recordings.csv: line 5", "wav/03.m4a cannot be read as a recording"]),
        (_no_such_channel, ["recordings.csv: line 2", "has 1 channel(s), no channel 1"]),
        (_not_a_number, ["recordings.csv: line 5", "wav/03.wav: sample 17 is NaN or infinite"]),
        (_no_column, ["no column 'text' (there are: audio, transcript, speaker); say in columns.text"]),
        (_asked_column, ["no column 'talker'"]),
        (_short_line, ["recordings.csv: line 6: 2 cells, but the header has 3"]),
        (_twice, ["recordings.csv: line 7: wav/04.wav is in line 6 already; leave one"]),
        (_one_without_speaker, ["recordings.csv: line 7: names no speaker (column 'speaker')"]),
        (_alike_speakers, ["speaker 'a_b' and speaker 'a b'", "line 6", "rename one"]),
        (_latin, ["recordings.csv: line 2: not UTF-8 (byte 0xc4)"]),
        (_only_a_header, ["recordings.csv: a table has a line with the columns' names"]),
        (_two_speakers, ["2 speakers, and three splits without a common one need at least 3"]),
        (_all_empty, ["nothing is left of", "without transcript"]),
        (
            _the_same_file,
            ["in set 'train' and in set 'test' (the same file)", "train.csv: line 11", "test.csv: line 2"],
        ),
        (_a_copy, ["in set 'train' and in set 'test' (the same bytes)", "recordings.csv: line"]),
        (_a_pipe, ["wav.scp: line 1: is a command", "are not run"]),
        (_an_archive, ["wav.scp: line 1", "Kaldi archive, which is not read"]),
        (_text_alone, ["text: line 21: utterance 'zoe-1' is not in wav.scp"]),
        (_wrong_segment, ["segments: line 2", "is not a recording, its start and its end in seconds"]),
        (_late_segment, ["truncated (2000 of 4000 samples)"]),
        (_not_lhotse, ["cuts.jsonl: lhotse cannot read it"]),
        (_only_supervisions, ["not a manifest of cuts; name cuts, or both"]),
        (_nothing_to_train_on, ["nothing is left to train on: dev 6, test 4 of 10"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_refused_by_name(own, damage, words):
    settings = damage(own) or {}
    with pytest.raises(UserError) as caught:
        own.prepare(settings.pop("source", None), **settings)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert not (own.folder / "ran").exists() and not Path("ran").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "source: Field required"),
        ({"source": {"train": "a.csv"}}, "'dev' has none"),
        ({"source": {"train": "a.csv", "dev": "b.csv"}}, "at least one test set"),
        ({"source": {"train": "a", "dev": "b", "te st": "c"}}, "'te st' cannot name a test set"),
        ({"source": "x", "splits": {"dev": 0.6, "test": 0.5}}, "leave nothing to train on"),
        ({"source": "x", "channel": -1}, "channels are counted from 0 on"),
        ({"source": "x", "longest_seconds": 0.05}, "shortest_seconds is not below longest_seconds"),
        ({"source": "x", "columns": {"audoi": "a"}}, "unknown key 'audoi'; did you mean 'audio'"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        prepare("folder", settings, tmp_path / "out")
