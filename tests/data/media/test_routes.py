"""One content through every way a file can be decoded: all must give what the file was made of."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from media_files import write_video
from PIL import Image

from dus_gym.data.media.audio import WaveformDecoder, read_wave
from dus_gym.data.media.frames import FramesDecoder
from dus_gym.data.media.image import read_image
from dus_gym.data.media.video import read_every, read_window
from dus_gym.data.media.window import read_frames
from dus_gym.data.store import Row, open_store
from dus_gym.errors import MediaError

# -- sound -------------------------------------------------------------------------------------------

RATE = 48_000
SECONDS = np.arange(RATE) / RATE
LEFT = 0.9 * np.sin(2 * np.pi * 440 * SECONDS) * (SECONDS > 0.1) * (SECONDS < 0.9)
RIGHT = 0.5 * np.sin(2 * np.pi * 1000 * SECONDS + 1) * (SECONDS > 0.1) * (SECONDS < 0.9)
CHANNELS = {"mono": [LEFT], "stereo": [LEFT, RIGHT], "5.1": [LEFT, RIGHT, LEFT, 0 * LEFT, LEFT, RIGHT]}


def write_wave(path, layout, codec=None, sample=None):
    """The channels through soundfile, or through FFmpeg where a codec is named."""
    channels = np.stack(CHANNELS[layout]).astype(np.float32)
    if codec is None:
        soundfile.write(path, channels.T, RATE, subtype=sample)
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout=layout)
        stream.codec_context.format = sample
        frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = RATE, 0
        fitting = av.AudioResampler(sample, layout, RATE, frame_size=stream.codec_context.frame_size or 1024)
        for part in [*fitting.resample(frame), *fitting.resample(None), None]:
            container.mux(stream.encode(part))
    return path


# Lossy codecs change samples; those of the last four pad the start too, and their containers do not say so.
SOUNDS = {
    "pcm16.wav": (None, "PCM_16", 1e-4, 0),
    "pcm8.wav": (None, "PCM_U8", 0.009, 0),
    "pcm24.wav": (None, "PCM_24", 1e-6, 0),
    "float.wav": (None, "FLOAT", 1e-7, 0),
    "a.flac": (None, "PCM_16", 1e-4, 0),
    "a.aiff": (None, "PCM_16", 1e-4, 0),
    "a.ogg": (None, None, 0.03, 0),
    "u8.avi": ("pcm_u8", "u8", 0.009, 0),
    "pcm16.avi": ("pcm_s16le", "s16", 1e-4, 0),
    "pcm16.mov": ("pcm_s16be", "s16", 1e-4, 0),
    "pcm24.mkv": ("pcm_s24le", "s32", 1e-6, 0),
    "float.mkv": ("pcm_f32le", "flt", 1e-7, 0),
    "flac.mkv": ("flac", "s16", 1e-4, 0),
    "alac.m4a": ("alac", "s16p", 1e-4, 0),
    "aac.mp4": ("aac", "fltp", 0.05, 0),
    "aac.mkv": ("aac", "fltp", 0.05, 0),
    "opus.webm": ("libopus", "flt", 0.05, 0),
    "ac3.mkv": ("ac3", "fltp", 0.05, 0),
    "aac.flv": ("aac", "fltp", 0.05, 1024),
    "aac.ts": ("aac", "fltp", 0.05, 1024),
}
ONE_LAYOUT = {"a.ogg", "alac.m4a", "aac.flv", "opus.webm", "ac3.mkv"}
"""Codecs that order six channels in their own way, or can't hold them: stereo and mono tell enough."""


@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, layout) for name in SOUNDS for layout in CHANNELS if layout != "5.1" or name not in ONE_LAYOUT],
)
def test_mono_is_the_mean_of_the_channels_whatever_the_container(tmp_path, name, layout):
    codec, sample, near, delay = SOUNDS[name]
    expected = np.mean(CHANNELS[layout], axis=0)
    found = read_wave(write_wave(tmp_path / name, layout, codec, sample), RATE)[delay:]
    assert found.dtype == np.float32
    assert 0 <= len(found) - RATE <= (2048 if near >= 0.03 else 0), "a codec fills its last block"
    assert np.abs(found[6000:42_000] - expected[6000:42_000]).max() < near
    assert np.abs(found[:4000]).max() < near, "the start is silence"


@pytest.mark.parametrize("name", ["pcm16.wav", "pcm16.avi", "flac.mkv"])
def test_the_rate_is_the_files_whatever_the_container(tmp_path, name):
    path = write_wave(tmp_path / name, "stereo", *SOUNDS[name][:2])
    assert len(read_wave(path, 16_000)) == 16_000
    assert (
        np.abs(read_wave(path, 24_000)[3000:21_000] - np.mean(CHANNELS["stereo"], axis=0)[6000:42_000:2]).max() < 5e-3
    )


def ogg_page(packet, serial, number, position, kind):
    """One page with one packet (RFC 3533); kind 2 begins the stream, 4 ends it."""
    lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    page = bytearray(
        struct.pack("<4sBBqIIIB", b"OggS", 0, kind, position, serial, number, 0, len(lacing)) + lacing + packet
    )
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (0x104C11DB7 if crc & 0x80000000 else 0)
    page[22:26] = struct.pack("<I", crc)
    return bytes(page)


def ogg_flac(path, out):
    """The FLAC file in an Ogg container (xiph.org/flac/ogg_mapping), which no encoder here writes."""
    whole = path.read_bytes()
    assert whole[:4] == b"fLaC"
    blocks, at, last = [], 4, False
    while not last:
        last, length = bool(whole[at] & 0x80), int.from_bytes(whole[at + 1 : at + 4], "big")
        blocks.append(whole[at : at + 4 + length])
        at += 4 + length
    # STREAMINFO, then the comments alone.
    comment = next(block for block in blocks if block[0] & 0x7F == 4)
    first = b"\x7fFLAC\x01\x00" + struct.pack(">H", 1) + b"fLaC" + bytes([blocks[0][0] & 0x7F]) + blocks[0][1:]
    packets = [(first, 0), (bytes([comment[0] | 0x80]) + comment[1:], 0)]
    position = 0
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            if packet.size:
                position += round(packet.duration * packet.time_base * RATE)
                packets.append((bytes(packet), position))
    pages = [
        ogg_page(content, 7, number, end, 2 if number == 0 else 4 if number == len(packets) - 1 else 0)
        for number, (content, end) in enumerate(packets)
    ]
    out.write_bytes(b"".join(pages))
    return out


@pytest.mark.parametrize("suffix", [".ogg", ".oga"])
def test_flac_in_an_ogg_is_the_flac(tmp_path, suffix):
    plain = write_wave(tmp_path / "a.flac", "stereo", None, "PCM_16")
    found = read_wave(ogg_flac(plain, tmp_path / f"b{suffix}"), RATE)
    np.testing.assert_array_equal(found, read_wave(plain, RATE))
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes((tmp_path / f"b{suffix}").read_bytes()[:-3000])
    with pytest.raises(MediaError):
        read_wave(cut, RATE)


# -- lengths that headers say --------------------------------------------------------------------------


def wav_of(tmp_path, riff, data, cut=0, more=b""):
    """A wav of 100 samples whose header says other lengths (None: the right ones)."""
    soundfile.write(tmp_path / "a.wav", np.full(100, 0.5), 16_000, subtype="PCM_16")
    whole = (tmp_path / "a.wav").read_bytes()
    assert whole[36:40] == b"data"
    riff, data = len(whole) - 8 if riff is None else riff, 200 if data is None else data
    content = whole[:4] + struct.pack("<I", riff) + whole[8:40] + struct.pack("<I", data) + whole[44:]
    (tmp_path / "a.wav").write_bytes(content[: len(content) - cut] + more)
    return tmp_path / "a.wav"


@pytest.mark.parametrize(
    ("riff", "data", "more"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF, b""),  # ffmpeg to a pipe
        (0x7FFFF024, 0x7FFFF000, b""),  # sox
        (0x80000024, 0x80000000, b""),  # arecord
        (None, None, b"junk" * 25),
        (252, None, b""),  # too long by 16
        (None, None, b"LIST\xff\xff\x00\x00cut"),
        (0, None, b""),
    ],
)
def test_a_whole_wav_is_read_whatever_its_header_says_of_the_file(tmp_path, riff, data, more):
    assert len(read_wave(wav_of(tmp_path, riff, data, more=more), 16_000)) == 100


@pytest.mark.parametrize(
    ("cut", "kind"), [(1, "truncated"), (100, "truncated"), (200, "truncated"), (206, "truncated")]
)
def test_a_wav_whose_samples_were_cut_off_is_not_read_as_a_shorter_one(tmp_path, cut, kind):
    with pytest.raises(MediaError) as raised:
        read_wave(wav_of(tmp_path, None, None, cut), 16_000)
    assert raised.value.kind == "truncated"


def test_a_flac_that_was_cut_off_is_not_read_as_a_shorter_one(tmp_path):
    path = write_wave(tmp_path / "a.flac", "stereo", None, "PCM_16")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(MediaError) as raised:
        read_wave(path, RATE)
    assert raised.value.kind in ("truncated", "undecodable")


def test_a_wav_without_a_sample_in_its_header_is_empty(tmp_path):
    with pytest.raises(MediaError) as raised:
        read_wave(wav_of(tmp_path, 0, 0), 16_000)
    assert raised.value.kind == "empty"


# -- pictures and frames -------------------------------------------------------------------------------

QUARTERS = [(250, 20, 20), (20, 240, 30), (20, 30, 245), (200, 200, 40)]
SHOWN = np.kron(np.array(QUARTERS, np.uint8).reshape(2, 2, 3), np.ones((24, 32, 1), np.uint8))
"""Four colours, 48 by 64."""
NEAR = 6


def at_corners(pixels):
    """The colours 8 pixels from each corner."""
    return np.stack([pixels[y, x] for y in (8, -9) for x in (8, -9)]).astype(int)


def check(found, near=NEAR):
    assert found.shape == SHOWN.shape
    assert np.abs(at_corners(found) - QUARTERS).max() <= near


def write_frames_as(path, codec, pixel_format, count=5):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 48, 64, pixel_format, 4_000_000
        for _ in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(SHOWN, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def with_matrix(path, matrix):
    """The mp4 with a display matrix in its track's header: (a, b, c, d) of 16.16 fixed point."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (int(value * 65536) for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


VIDEOS = {
    "lossless.mkv": ("ffv1", "bgr0"),
    "h264.mp4": ("libx264", "yuv420p"),
    "rgb.mkv": ("libx264rgb", "rgb24"),
    "full-range.mp4": ("libx264", "yuvj420p"),
    "10-bit.mp4": ("libx264", "yuv420p10le"),
    "motion.avi": ("mjpeg", "yuvj420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "flash.flv": ("flv", "yuv420p"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "alpha.mov": ("png", "rgba"),
    "wmv.wmv": ("wmv2", "yuv420p"),
    "mpeg2.mpg": ("mpeg2video", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p"),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_a_frame_is_the_same_whatever_the_container(tmp_path, name):
    path = write_frames_as(tmp_path / name, *VIDEOS[name])
    for frame in (read_every(path, 1)[0], read_window(path, 2, 4)[1], read_frames(path, 4, 5, 64, "rgb")[0][8:56, :]):
        assert np.abs(frame[8, 8].astype(int) - QUARTERS[0]).max() <= NEAR
    check(read_every(path, 1)[0])
    check(read_window(path, 2, 4)[1])
    grey = np.asarray(Image.fromarray(SHOWN).convert("L"))
    assert (
        np.abs(read_window(path, 0, 1, colour="grey")[0, ..., 0].astype(int) - grey)[
            [8, 8, -9, -9], [8, -9, 8, -9]
        ].max()
        <= 3
    )
    with pytest.raises(MediaError, match="has 5 frames"):
        read_window(path, 5, 6)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.jpg", "palette.png", "alpha.png", "cmyk.jpg"])
def test_a_picture_is_the_same_whatever_its_format(tmp_path, name):
    picture = Image.fromarray(SHOWN)
    if name == "palette.png":
        picture = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    if name == "alpha.png":
        picture.putalpha(255)
    if name == "cmyk.jpg":
        picture = picture.convert("CMYK")
    picture.save(tmp_path / name, **({"quality": 95} if name.endswith("jpg") else {}))
    check(read_image(tmp_path / name))
    check(read_image(tmp_path / name, as_shown=True))


def test_a_folder_of_frames_and_a_video_give_the_same(tmp_path):
    (tmp_path / "frames").mkdir()
    Image.fromarray(SHOWN).save(tmp_path / "frames/1.png")
    path = write_frames_as(tmp_path / "a.mkv", "ffv1", "bgr0", 1)
    one, other = (FramesDecoder()(Row("a", (media,))) for media in (tmp_path / "frames", path))
    np.testing.assert_array_equal(one, other)
    for colour in ("rgb", "grey"):
        one, other = (read_frames(media, 0, 1, 32, colour).astype(int) for media in (tmp_path / "frames", path))
        assert np.abs(one - other).max() <= 2


# -- how a picture is to be held -----------------------------------------------------------------------

TURNS = {0: (1, 0, 0, 1), 1: (0, -1, 1, 0), 2: (-1, 0, 0, -1), 3: (0, 1, -1, 0)}


@pytest.mark.parametrize("quarters", TURNS)
def test_frames_are_turned_as_the_video_says(tmp_path, quarters):
    cv2 = pytest.importorskip("cv2")
    path = with_matrix(write_frames_as(tmp_path / "a.mp4", "libx264", "yuv420p"), TURNS[quarters])
    upright = np.rot90(SHOWN, quarters)
    for frame in (read_every(path, 1)[0], read_window(path, 1, 2)[0]):
        assert frame.shape == upright.shape
        assert np.abs(at_corners(frame) - at_corners(upright)).max() <= NEAR
        assert np.abs(frame.astype(int) - cv2.VideoCapture(str(path)).read()[1][..., ::-1]).max() <= NEAR
    assert read_window(path, 0, 1, (10, 20)).shape == (1, 10, 20, 3)
    assert read_every(path, 1, 24).shape == (1, *(upright.shape[0] // 2, upright.shape[1] // 2), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_where_they_are_read_as_shown_and_only_there(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(SHOWN).save(tmp_path / "a.jpg", exif=exif, quality=95)
    mirrored = SHOWN[:, ::-1]
    right = [SHOWN, mirrored, np.rot90(SHOWN, 2), SHOWN[::-1], np.rot90(mirrored), np.rot90(SHOWN, 3),
             np.rot90(mirrored, 3), np.rot90(SHOWN)][orientation - 1]  # fmt: skip
    found = read_image(tmp_path / "a.jpg", as_shown=True)
    assert found.shape == right.shape
    assert np.abs(at_corners(found) - at_corners(right)).max() <= NEAR
    check(read_image(tmp_path / "a.jpg"))


def test_a_transparent_ground_is_white_where_pictures_are_read_as_shown(tmp_path):
    logo = np.zeros((40, 40, 4), np.uint8)
    logo[10:30, 10:30, 3] = 255
    Image.fromarray(logo).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", as_shown=True)
    assert (found[10:30, 10:30] == 0).all()
    assert (found[:10] == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.save(tmp_path / "b.png", transparency=1)
    assert (read_image(tmp_path / "b.png", as_shown=True) == 255).all()


# -- depth ---------------------------------------------------------------------------------------------


def test_more_than_eight_bits_are_refused_with_what_to_do(tmp_path):
    deep = np.linspace(500, 4500, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "grey.png")
    with av.open(str(tmp_path / "rgb.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "rgb48be"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(deep[..., None], 3, 2), format="rgb48be")))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "grey.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "gray16le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(deep, format="gray16le")))
        container.mux(stream.encode(None))
    for name, read in (
        ("grey.png", read_image),
        ("rgb.png", read_image),
        ("grey.mkv", lambda path: read_every(path, 1)),
    ):
        with pytest.raises(MediaError, match=r"bits per sample.*\.npy") as raised:
            read(tmp_path / name)
        assert raised.value.kind == "undecodable"


# -- what libraries raise --------------------------------------------------------------------------------


def test_a_title_that_is_not_utf8_is_no_reason_to_stop(tmp_path):
    path = write_video(tmp_path / "a.avi", 10, sound=np.zeros(16_000, np.float32))
    with av.open(str(path)) as old, av.open(str(tmp_path / "b.avi"), "w") as new:
        new.metadata["title"] = "ABCD"
        copies = {stream: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream]
                new.mux(packet)
    content = (tmp_path / "b.avi").read_bytes()
    assert content.count(b"ABCD") == 1
    (tmp_path / "b.avi").write_bytes(content.replace(b"ABCD", b"caf\xe9"))
    assert len(read_window(tmp_path / "b.avi", 0, 10)) == 10
    assert len(read_wave(tmp_path / "b.avi", 16_000)) >= 16_000


@pytest.mark.parametrize("rate", [1, 999, 2_000_000, 2**31 - 1])
def test_a_rate_that_cannot_be_is_that_files_fault(tmp_path, rate):
    path = wav_of(tmp_path, None, None)
    content = path.read_bytes()
    path.write_bytes(content[:24] + struct.pack("<I", rate) + content[28:])
    with pytest.raises(MediaError, match="samples per second") as raised:
        read_wave(path, 22_050)
    assert raised.value.kind == "undecodable"


@pytest.mark.parametrize(
    "error", [MemoryError("x"), SystemError("x"), UnicodeDecodeError("utf-8", b"", 0, 0, "x"), KeyError("x")]
)
@pytest.mark.parametrize("route", ["sound", "container", "picture"])
def test_whatever_a_library_raises_is_that_files_problem(tmp_path, monkeypatch, route, error):
    def fails(*_, **__):
        raise error

    path = Path({"sound": "a.wav", "container": "a.mp4", "picture": "a.png"}[route])
    path = tmp_path / path
    path.write_bytes(b"x" * 100)
    monkeypatch.setattr(soundfile, "SoundFile", fails)
    monkeypatch.setattr(av, "open", fails)
    monkeypatch.setattr(Image, "open", fails)
    with pytest.raises(MediaError, match=type(error).__name__) as raised:
        read_image(path) if route == "picture" else read_wave(path, 16_000)
    assert raised.value.kind == "undecodable"


@pytest.mark.parametrize("name", ["a.wav", "a.mp4", "a.flac", "a.png"])
def test_a_pointer_of_git_lfs_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n")
    with pytest.raises(MediaError, match=r"Git LFS pointer.*git lfs pull") as raised:
        read_image(path) if name == "a.png" else read_wave(path, 16_000)
    assert raised.value.kind == "undecodable"


def test_no_corrupt_file_ends_a_build(tmp_path):
    good = wav_of(tmp_path, None, None).rename(tmp_path / "good.wav")
    content = good.read_bytes()
    files = {
        "rate.wav": content[:24] + struct.pack("<I", 2**31 - 1) + content[28:],
        "channels.wav": content[:22] + struct.pack("<H", 65_535) + content[24:],
        "cut.wav": content[:100],
        "page.wav": b"<html>404</html>",
        "page.mp4": b"<html>404</html>",
        "pointer.wav": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n",
        "none.wav": b"",
    }
    for name, wrong in files.items():
        (tmp_path / name).write_bytes(wrong)
    rows = [Row(name, (tmp_path / name,)) for name in ("good.wav", *files)]
    store = open_store(tmp_path / "c", "toy", WaveformDecoder(rate=16_000, least=1), rows, on_error="skip", max_bad=1.0)
    kinds = {bad.sample: bad.kind for bad in store.bad}
    assert kinds == dict.fromkeys(files, "undecodable") | {"cut.wav": "truncated", "none.wav": "empty"}
    assert len(store.gather(["good.wav"])[0]) == 100
