"""What a running daemon lets others see: metrics, status page, trace.

Everything here reads what the daemon counts anyway, when it is asked; nothing of it
can change what the daemon does.
"""
