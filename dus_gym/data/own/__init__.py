"""Anyone's own data: a .npz file, a folder of .npy files, or a folder of media, as a task without code."""

from dus_gym.data.task import Task

TASKS = (
    Task(
        name="Own",
        modalities=("one", "other"),
        num_classes=2,
        encoders=("mlp", "mlp"),
        lr=0.01,
        epochs=30,
        summary="data of yours: modalities and classes are read from it",
        source="dus_gym.data.own.source:OWN",
        train_size=1000,
    ),
)
