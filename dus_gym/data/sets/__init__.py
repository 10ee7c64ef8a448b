"""The data sets that come with the package: one file each, with lists, places of media, download facts and tasks."""
