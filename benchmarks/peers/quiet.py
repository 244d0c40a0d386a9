"""Imported before anything of Hugging Face: no hub is asked, and nothing but answers is printed."""

import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.simplefilter("ignore")

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

for logging in (diffusers_logging, transformers_logging):
    logging.set_verbosity_error()
    logging.disable_progress_bar()
