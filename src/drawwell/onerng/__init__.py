"""Pure: the OneRNG's commands, replies, firmware image and signature."""
