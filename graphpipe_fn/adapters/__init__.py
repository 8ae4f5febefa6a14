"""Adapters: a platform's call becomes a body and a Call, and the Reply becomes the platform's answer; one each."""
