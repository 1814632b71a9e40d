"""The REST routes under ``/api/v1``. They only translate; the services do the work."""
