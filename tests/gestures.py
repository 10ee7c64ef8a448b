"""A tiny NVGesture in its real format, for tests: lists without a final newline, videos longer than their windows."""

import json

import numpy as np
from media_files import write_video

FRAMES, START, HEIGHT, WIDTH = 10, 3, 24, 32


def rows(split):
    """Folder, subject and label of each row; the first training row lies in a folder of another class."""
    subjects = (1, 2, 3) if split == "train" else (5, 8)
    found = [(label, subject, label) for label in (1, 2, 25) for subject in subjects]
    return [(7, subjects[0], 1), *found[1:]] if split == "train" else found


def write_gestures(root, flow=True, **options):
    """Lists, videos whose frame i has the brightness 8 i, and numbered .npy files of flow with one frame less."""
    for split in ("train", "test"):
        lines = []
        for number, (folder, subject, label) in enumerate(rows(split)):
            place = f"Video_data/class_{folder:02d}/subject{subject}_r0"
            for sensor in ("sk_color", "sk_depth"):
                path = root / place / f"{sensor}.avi"
                if number < 2:
                    write_video(path, START + FRAMES + 2, (HEIGHT, WIDTH), codec="mjpeg", value=lambda i: 8 * i)
                else:  # as any other video; encoding takes longer than copying
                    path.parent.mkdir(parents=True, exist_ok=True)
                    first = f"Video_data/class_{rows('train')[0][0]:02d}/subject1_r0"
                    path.write_bytes((root / first / f"{sensor}.avi").read_bytes())
            window = f"{START}:{START + FRAMES}"
            lines.append(
                f"path:./{place} depth:sk_depth:{window} color:sk_color:{window} duo_left:duo_left:0:12 label:{label} "
            )
            if flow:
                file = root / f"Video_data/flow_data/{split}/{number}.npy"
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, np.full((HEIGHT, WIDTH, 2, FRAMES - 1), number, np.float32), allow_pickle=False)
        (root / f"nvgesture_{split}_correct_cvpr2016_v2.lst").write_text("\n".join(lines))
    options = {"size": 40, "crop": 36, "frames": 8, "held": 1, **options}
    settings = {"data_kind": "mock", "encoders": ["i3d:width=0.1"] * 3, "options": options}
    (root / "dus-data.json").write_text(json.dumps(settings))
    return root
