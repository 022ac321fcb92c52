"""How people get in: guesses are slowed down, and a code beside the password is asked for.

guard       how often somebody may try, before a password's hash is computed
factor      the second factor: a code of an app, or a recovery code
form        the form that asks for all of it
site        the admin's site: signing in, and the page where each sets up their own
entering    the middleware: who has a second factor is in with it, or not at all
"""

from fallback.sign_in.factor import has_factor, is_on, remove
from fallback.sign_in.guard import recent_failures

__all__ = ["has_factor", "is_on", "recent_failures", "remove"]
