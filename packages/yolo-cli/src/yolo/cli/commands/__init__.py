"""The commands of yolo-cli itself; each module is imported when its command is used."""
