"""Anyone's own data: a .npz file, a folder of .npy files, or a folder of media, as a task without code."""
