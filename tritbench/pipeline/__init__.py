"""What the stages, the script and methods/ call: a module for each step, so that a stage depends on
no code of another."""
